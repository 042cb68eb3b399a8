//! The guards: who asks, and what they may.

use std::marker::PhantomData;
use std::sync::Arc;

use private_chat_core::id::UserId;
use private_chat_core::model::chat::Message;
use private_chat_core::policy::{GlobalRight, Right};
use private_chat_core::usecase::auth::Actor;
use private_chat_core::usecase::workspaces::Member;
use private_chat_core::usecase::{chats, users};

use super::State;
use super::edge::fault::Fault;
use super::edge::guard::{Asked, Guard};

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Caller(pub Actor);

impl Guard for Caller {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        Ok(Self(state.cases.auth.authenticate(asked.bearer()?).await?))
    }
}

/// Somebody who is signed in, and may have to change their password before anything else.
#[derive(Clone, Debug)]
pub struct CallerEvenIfUnsettled(pub Actor);

impl Guard for CallerEvenIfUnsettled {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        Ok(Self(state.cases.auth.authenticate_for_password_change(asked.bearer()?).await?))
    }
}

/// Somebody who manages accounts.
#[derive(Clone, Debug)]
pub struct Admin(pub Actor);

impl Guard for Admin {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        let Caller(actor) = Caller::admit(state, asked).await?;
        actor.require(GlobalRight::ManageUsers)?;
        Ok(Self(actor))
    }
}

/// Somebody who manages accounts, and the account in the path, which there is.
#[derive(Clone, Debug)]
pub struct Managing {
    /// Who.
    pub admin: Actor,
    /// Whose account.
    pub user: UserId,
}

impl Guard for Managing {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        let Admin(admin) = Admin::admit(state, asked).await?;
        let user = asked.id("user_id");
        state.cases.users.open(admin.clone(), user).await?;
        Ok(Self { admin, user })
    }
}

/// The account in the path, for its owner and for those who manage accounts.
#[derive(Clone, Debug)]
pub struct Account(pub users::Account);

impl Guard for Account {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        let Caller(actor) = Caller::admit(state, asked).await?;
        let user = asked.id("user_id");
        Ok(Self(state.cases.users.open(actor, user).await?))
    }
}

/// A right, as a type.
pub trait Holds: std::marker::Send + Sync + 'static {
    /// The right.
    const RIGHT: Right;
}

macro_rules! rights {
    ($($right:ident),* $(,)?) => {$(
        #[doc = concat!("[`Right::", stringify!($right), "`], as a type.")]
        #[derive(Clone, Copy, Debug)]
        pub enum $right {}

        impl Holds for $right {
            const RIGHT: Right = Right::$right;
        }
    )*};
}

rights!(
    SeeWorkspace,
    EditWorkspace,
    DeleteWorkspace,
    SeeMembers,
    Leave,
    ChangeRoles,
    Invite,
    ReadChats,
    CreateChat,
    Send,
    EditChat,
    DeleteChat,
    StopReply,
);

/// A member of the workspace in the path who holds the right `R`.
#[derive(Clone, Debug)]
pub struct In<R>(pub Member, PhantomData<fn() -> R>);

impl<R: Holds> Guard for In<R> {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        let arrived = state.cases.auth.arrive(asked.bearer()?, asked.id("workspace_id"), None).await?;
        Ok(Self(arrived.member(R::RIGHT)?, PhantomData))
    }
}

/// A member who holds the right `R`, in the chat in the path, which they may see.
#[derive(Clone, Debug)]
pub struct InChat<R>(pub chats::InChat, PhantomData<fn() -> R>);

impl<R: Holds> Guard for InChat<R> {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        let (workspace, chat) = (asked.id("workspace_id"), asked.id("chat_id"));
        let arrived = state.cases.auth.arrive(asked.bearer()?, workspace, Some(chat)).await?;
        Ok(Self(arrived.in_chat(R::RIGHT)?, PhantomData))
    }
}

/// A member who holds the right `R`, in the chat in the path, of which the message in the path is.
#[derive(Clone, Debug)]
pub struct AtMessage<R>(pub chats::InChat, PhantomData<fn() -> R>);

impl<R: Holds> Guard for AtMessage<R> {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        let (chat, _) = at_message::<R>(state, asked).await?;
        Ok(Self(chat, PhantomData))
    }
}

/// A member who may send, in the chat in the path, of which the message in the path is, and it is theirs.
#[derive(Clone, Debug)]
pub struct ItsAuthor(pub chats::InChat);

impl Guard for ItsAuthor {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        let (chat, message) = at_message::<Send>(state, asked).await?;
        chat.require_author(&message)?;
        Ok(Self(chat))
    }
}

async fn at_message<R: Holds>(state: &Arc<State>, asked: Asked<'_>) -> Result<(chats::InChat, Message), Fault> {
    let InChat(chat, _) = InChat::<ReadChats>::admit(state, asked).await?;
    let message = state.cases.chats.message(&chat, asked.id("message_id")).await?;
    chat.member().require(R::RIGHT)?;
    Ok((chat, message))
}

/// A member who holds the right `R` and is in charge of the chat in the path: they made it, or they run the workspace.
#[derive(Clone, Debug)]
pub struct InCharge<R>(pub chats::InChat, PhantomData<fn() -> R>);

impl<R: Holds> Guard for InCharge<R> {
    type State = State;

    async fn admit(state: &Arc<State>, asked: Asked<'_>) -> Result<Self, Fault> {
        let InChat(chat, _) = InChat::<R>::admit(state, asked).await?;
        chat.require_charge()?;
        Ok(Self(chat, PhantomData))
    }
}
