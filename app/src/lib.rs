//! The driving side of private-chat: HTTP, configuration and wiring.

pub mod http;
