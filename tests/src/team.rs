//! One of each kind of caller, and something for them to call about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use private_chat_core::model::workspace::Role;
use private_chat_core::port::store::Store;
use serde_json::{Value, json};

use crate::client::{App, Caller, PASSWORD, ports, text};
use crate::document::Operation;

/// A workspace with a chat that its owner made, everybody in it, and two who are not.
pub struct Team {
    /// Where they meet.
    pub app: Arc<App>,
    /// The administrator of the installation, who is in no workspace.
    pub admin: Caller,
    /// The workspace's only OWNER.
    pub owner: Caller,
    /// A MEMBER.
    pub member: Caller,
    /// A GUEST.
    pub guest: Caller,
    /// Owns a workspace of their own.
    pub outsider: Caller,
    /// Whom routes about an account, a member or a session are about: another MEMBER.
    pub somebody: Caller,
    /// The workspace.
    pub workspace: String,
    /// The chat's path.
    pub chat: String,
    /// A message of the owner.
    pub message: String,
    /// The reply to it, which has ended.
    pub reply: String,
    /// An invitation into the workspace of somebody who has no account.
    pub invitation: String,
    /// The token of that invitation.
    pub token: String,
    /// What the emails of this team have in common.
    mark: String,
}

impl Team {
    /// In memory.
    pub async fn new() -> Self {
        Self::on(App::start().await).await
    }

    /// On this store, which has nothing in it.
    pub async fn over(store: Arc<dyn Store>) -> Self {
        Self::on(App::on(ports().over(store)).await).await
    }

    /// The first one of this application.
    pub async fn on(app: App) -> Self {
        let admin = app.setup().await;
        Self::found(Arc::new(app), admin, String::new()).await
    }

    /// Another one in the same application, with nobody of this one but the administrator, who is signed in anew.
    pub async fn another(&self) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let admin = self.app.sign_in(&self.admin.email).await;
        Self::found(self.app.clone(), admin, format!(" {number}")).await
    }

    async fn found(app: Arc<App>, admin: Caller, mark: String) -> Self {
        let person = async |name: &str| app.user(&admin, &format!("{name}{mark}")).await;
        let owner = person("Owner").await;
        let member = person("Member").await;
        let guest = person("Guest").await;
        let outsider = person("Outsider").await;
        let somebody = person("Somebody").await;
        let workspace = owner.workspace().await;
        app.join(&workspace, &member, Role::Member).await;
        app.join(&workspace, &guest, Role::Guest).await;
        app.join(&workspace, &somebody, Role::Member).await;
        let chat = owner.chat(&workspace).await;
        let (message, reply) = owner.say(&chat, "Hello.").await;
        let newcomer = format!("newcomer{}@example.com", mark.replace(' ', "."));
        let invitation = owner.invite(&workspace, &newcomer, "MEMBER").await;
        outsider.workspace().await;
        Self {
            app,
            admin,
            owner,
            member,
            guest,
            outsider,
            somebody,
            workspace,
            chat,
            message: text(&message["id"]),
            reply: text(&reply["id"]),
            invitation: text(&invitation["id"]),
            token: text(&invitation["token"]),
            mark,
        }
    }

    /// A path inside of the workspace.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("/workspaces/{}{path}", self.workspace)
    }

    /// The path of an operation, with the ids of this team.
    ///
    /// # Panics
    /// When it has a variable that is not known here.
    #[must_use]
    pub fn path(&self, operation: Operation<'_>) -> String {
        let chat = self.chat.rsplit('/').next().unwrap_or_default();
        let message = if operation.id() == "edit_message" { &self.message } else { &self.reply };
        let path = operation
            .path
            .replace("{workspace_id}", &self.workspace)
            .replace("{chat_id}", chat)
            .replace("{message_id}", message)
            .replace("{user_id}", &self.somebody.id)
            .replace("{session_id}", &self.somebody.session())
            .replace("{invitation_id}", &self.invitation);
        assert!(!path.contains('{'), "{path}: what is to stand for its variables?");
        path
    }

    /// A body that an operation takes, where it takes one.
    ///
    /// # Panics
    /// When it takes one that is not known here.
    #[must_use]
    pub fn body(&self, operation: Operation<'_>) -> Option<Value> {
        operation.body()?;
        let new = format!("new{}@example.com", self.mark.replace(' ', "."));
        Some(match operation.id() {
            "setup" => json!({"email": new, "name": "Second", "password": PASSWORD}),
            "login" => json!({"email": self.outsider.email, "password": PASSWORD}),
            "refresh" => json!({"refresh_token": "none"}),
            "register" => json!({"token": self.token, "name": "New", "password": PASSWORD}),
            "change_password" => json!({"current_password": "wrong", "new_password": "another horse battery"}),
            "create_user" => json!({"email": new, "name": "New", "password": PASSWORD}),
            "create_workspace" | "update_workspace" | "update_user" => json!({"name": "New"}),
            "update_member" => json!({"role": "GUEST"}),
            "create_invitation" => json!({"email": new, "role": "MEMBER"}),
            "accept_invitation" | "decline_invitation" => json!({"invitation_id": self.invitation}),
            "create_chat" => json!({}),
            "update_chat" => json!({"title": "New"}),
            "send_message" | "edit_message" => json!({"content": "New"}),
            "regenerate_reply" => json!({"parameters": {"seed": 1}}),
            other => panic!("{other}: what is a body that it takes?"),
        })
    }
}
