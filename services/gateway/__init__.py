"""The gateway: pictures in, decisions about faces out."""
