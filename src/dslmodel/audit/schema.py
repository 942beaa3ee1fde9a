"""The tables of `state.db`, as the newest migration leaves them. Times are ns since the Unix epoch."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, LargeBinary, MetaData, String, Table

# The newest migration. An opened database that is there already needs no alembic.
VERSION = "0002"

metadata = MetaData()

findings = Table(
    "findings",
    metadata,
    Column("id", String, primary_key=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("pattern", String, nullable=False),
    Column("service", String, nullable=False, index=True),
    Column("operation", String),
    Column("score", Float, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("resolved_at", BigInteger, index=True),
    Column("updated_at", BigInteger, nullable=False),
    Column("is_flapping", Boolean, nullable=False),
    Column("acknowledged_at", BigInteger),
    Column("false_positive_at", BigInteger),
    Column("summary", String, nullable=False),
    Column("clauses", JSON, nullable=False),
    Column("exemplars", JSON, nullable=False),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", String, primary_key=True),
    Column("opened_at", BigInteger, nullable=False, index=True),
    Column("resolved_at", BigInteger, index=True),
    Column("root_causes", JSON, nullable=False),
    Column("findings", JSON, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("is_false_positive", Boolean, nullable=False),
)

baselines = Table(
    "baselines",
    metadata,
    Column("name", String, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

desired_state = Table(
    "desired_state",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", JSON, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", String, nullable=False),
)

# Append-only: triggers refuse updates and deletions.
events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("name", String, nullable=False),
    Column("arguments", JSON, nullable=False),
    sqlite_autoincrement=True,
)
