"""Findings, incidents, baselines and desired state."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "findings",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sa.Column("pattern", sa.String, nullable=False),
        sa.Column("service", sa.String, nullable=False, index=True),
        sa.Column("operation", sa.String),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("resolved_at", sa.BigInteger, index=True),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("is_flapping", sa.Boolean, nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger),
        sa.Column("false_positive_at", sa.BigInteger),
        sa.Column("summary", sa.String, nullable=False),
        sa.Column("clauses", sa.JSON, nullable=False),
        sa.Column("exemplars", sa.JSON, nullable=False),
    )
    op.create_table(
        "incidents",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("opened_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("resolved_at", sa.BigInteger, index=True),
        sa.Column("root_causes", sa.JSON, nullable=False),
        sa.Column("findings", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("is_false_positive", sa.Boolean, nullable=False),
    )
    op.create_table(
        "baselines",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "desired_state",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
    )
