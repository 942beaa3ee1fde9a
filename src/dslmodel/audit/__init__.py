"""What must survive a restart: findings, incidents, baselines, desired state, and who asked for what.

Takes frozen records and bytes; gives them back exactly. Owns `state.db`. Never decides anything, never reads a clock, and never
holds back an error: what can't be kept is an AuditError, so that the engine can fall back and say so.
"""
