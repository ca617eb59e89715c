"""The runnable services, and the runtime they share."""
