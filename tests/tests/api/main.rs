//! The API from outside: the whole application over a real socket, as a frontend or an attacker sees it.
//!
//! Most of it runs on the memory store; what touches the database in an interesting way runs on SQLite, too. Each answer and each event is held
//! against the OpenAPI document when it comes (`private_chat_tests::client`), so that a test says only what is its own.

#![expect(clippy::unwrap_used, reason = "whatever goes wrong in a test fails it")]

mod auth;
mod branches;
mod caps;
mod changing;
mod chats;
mod events;
mod idempotency;
mod invitations;
mod members;
mod openapi;
mod problems;
mod search;
mod secrets;
mod sessions;
mod sqlite;
mod status;
mod tokens;
mod users;
mod workspaces;

/// Runs stories on the memory store, and on SQLite.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(private_chat_tests::client::App::start().await).await;
                }
            )*
        }

        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $name() {
                    let file = crate::sqlite::File::new();
                    super::$name(file.app().await).await;
                }
            )*
        }
    };
}
use on_every_store;
