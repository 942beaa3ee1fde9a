"""Bytes and files -> accepted inputs, in order of receipt.

Takes: OTLP request bodies (protobuf, JSON, compressed), files, coordination directories.
Gives: `Payload`, `CoordinationEvent` and the other inputs of `records`, through one bounded buffer; readers of their content.
Owns: the buffer, the counts of what came and of what was dropped and why, the queue of the forwarder.
Never does: aggregate, judge or change what was received; block a sender; drop anything without counting it.
"""
