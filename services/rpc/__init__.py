"""gRPC: generated messages and the helpers that every server and client shares."""
