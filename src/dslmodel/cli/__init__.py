"""The `dsl` command. This file stays empty of imports: `dsl telemetry status` pays for every one of them."""
