//! The driving side of private-chat: settings, the HTTP edge, and the place where everything meets.

pub mod cli;
pub mod config;
pub mod http;
