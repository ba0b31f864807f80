//! Lookups and control: HTTP, ZeroMQ ROUTER, Unix socket.
