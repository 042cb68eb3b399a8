//! One of each kind of caller, and something for them to call about.

use private_chat_core::model::workspace::Role;
use private_chat_tests::client::{App, Caller, PASSWORD, text};
use private_chat_tests::document::Operation;
use serde_json::{Value, json};

/// A workspace with a chat that its owner made, everybody in it, and two who are not.
pub(crate) struct Team {
    pub(crate) app: App,
    pub(crate) admin: Caller,
    pub(crate) owner: Caller,
    pub(crate) member: Caller,
    pub(crate) guest: Caller,
    /// Owns a workspace of their own.
    pub(crate) outsider: Caller,
    pub(crate) workspace: String,
    /// The chat's path.
    pub(crate) chat: String,
    /// A reply that has ended.
    pub(crate) reply: String,
}

impl Team {
    pub(crate) async fn new() -> Self {
        Self::on(App::start().await).await
    }

    pub(crate) async fn on(app: App) -> Self {
        let admin = app.setup().await;
        let owner = app.user(&admin, "Owner").await;
        let member = app.user(&admin, "Member").await;
        let guest = app.user(&admin, "Guest").await;
        let outsider = app.user(&admin, "Outsider").await;
        let workspace = owner.workspace().await;
        app.join(&workspace, &member, Role::Member).await;
        app.join(&workspace, &guest, Role::Guest).await;
        let chat = owner.chat(&workspace).await;
        let (_, reply) = owner.say(&chat, "Hello.").await;
        outsider.workspace().await;
        Self { app, admin, owner, member, guest, outsider, workspace, chat, reply: text(&reply["id"]) }
    }

    /// A path inside of the workspace.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("/workspaces/{}{path}", self.workspace)
    }

    /// The path of an operation, with the ids of this team.
    pub(crate) fn path(&self, operation: Operation<'_>) -> String {
        let chat = self.chat.rsplit('/').next().unwrap();
        let path = operation
            .path
            .replace("{workspace_id}", &self.workspace)
            .replace("{chat_id}", chat)
            .replace("{message_id}", &self.reply);
        assert!(!path.contains('{'), "{path}: what is to stand for its variables?");
        path
    }

    /// A body that an operation takes, where it takes one.
    pub(crate) fn body(&self, operation: Operation<'_>) -> Option<Value> {
        operation.body()?;
        Some(match operation.id() {
            "setup" => json!({"email": "second@example.com", "name": "Second", "password": PASSWORD}),
            "login" => json!({"email": self.outsider.email, "password": PASSWORD}),
            "refresh" => json!({"refresh_token": "none"}),
            "change_password" => json!({"current_password": "wrong", "new_password": "another horse battery"}),
            "create_user" => json!({"email": "new@example.com", "name": "New", "password": PASSWORD}),
            "create_workspace" | "update_workspace" => json!({"name": "New"}),
            "create_chat" => json!({}),
            "update_chat" => json!({"title": "New"}),
            "send_message" => json!({"content": "New"}),
            other => panic!("{other}: what is a body that it takes?"),
        })
    }
}
