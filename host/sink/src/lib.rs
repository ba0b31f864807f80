//! What plugins emit leaves here: ZeroMQ PUB and PUSH, files.
