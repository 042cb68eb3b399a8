//! The seam between one SQL text and two native drivers: arguments in, rows out. Above it, nothing knows which database it speaks to.

use private_chat_core::change::Version;
use private_chat_core::error::Failure;
use private_chat_core::id::{ChatId, InstanceId, InvitationId, MessageId, SessionId, UserId, WorkspaceId};
use private_chat_core::port::Result;
use private_chat_core::time::Timestamp;
use sqlx::mysql::MySqlRow;
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use sqlx::{
    Arguments as _, Database, Encode, Executor as _, IntoArguments, MySqlConnection, SqliteConnection, Type,
    ValueRef as _,
};
use uuid::Uuid;

use super::code::Code;

/// The same thing of either driver.
pub(super) enum On<S, M> {
    Sqlite(S),
    MySql(M),
}

/// One argument of a statement: the few kinds that both databases have.
#[derive(Clone, Copy)]
pub(super) enum Arg<'a> {
    Null,
    Bytes(&'a [u8]),
    Text(&'a str),
    Int(i64),
}

/// A list of arguments, each by its `From`.
macro_rules! args {
    ($($arg:expr),* $(,)?) => { &[$($crate::sql::seam::Arg::from($arg)),*] };
}
pub(super) use args;

/// Writes `From` for a kind and for its `Option`. A generic implementation over `Option<T>` overflows type inference.
macro_rules! arguments {
    ($($type:ty: $it:ident => $arg:expr),* $(,)?) => {$(
        impl<'a> From<$type> for Arg<'a> {
            fn from($it: $type) -> Self {
                $arg
            }
        }

        impl<'a> From<Option<$type>> for Arg<'a> {
            fn from(it: Option<$type>) -> Self {
                it.map_or(Self::Null, Self::from)
            }
        }
    )*};
}

arguments! {
    i64: it => Self::Int(it),
    // Nothing counts that far.
    u64: it => Self::Int(i64::try_from(it).unwrap_or(i64::MAX)),
    u32: it => Self::Int(i64::from(it)),
    bool: it => Self::Int(i64::from(it)),
    Timestamp: it => Self::Int(it.as_micros()),
    Version: it => Self::from(it.0),
    &'a str: it => Self::Text(it),
    &'a String: it => Self::Text(it),
    &'a [u8; 16]: it => Self::Bytes(it),
    &'a [u8; 32]: it => Self::Bytes(it),
    &'a Uuid: it => Self::Bytes(it.as_bytes()),
    &'a UserId: it => Self::Bytes(it.as_bytes()),
    &'a SessionId: it => Self::Bytes(it.as_bytes()),
    &'a WorkspaceId: it => Self::Bytes(it.as_bytes()),
    &'a ChatId: it => Self::Bytes(it.as_bytes()),
    &'a MessageId: it => Self::Bytes(it.as_bytes()),
    &'a InstanceId: it => Self::Bytes(it.as_bytes()),
    &'a InvitationId: it => Self::Bytes(it.as_bytes()),
}

impl<'a> From<&'a Option<String>> for Arg<'a> {
    fn from(text: &'a Option<String>) -> Self {
        text.as_ref().into()
    }
}

fn query<D: Database>(
    sql: &'static str,
    args: &[Arg<'_>],
) -> std::result::Result<Query<'static, D, D::Arguments>, sqlx::Error>
where
    D::Arguments: IntoArguments<D>,
    for<'q> &'q [u8]: Encode<'q, D> + Type<D>,
    for<'q> &'q str: Encode<'q, D> + Type<D>,
    for<'q> Option<i64>: Encode<'q, D> + Type<D>,
{
    let mut bound = D::Arguments::default();
    for arg in args {
        match *arg {
            Arg::Null => bound.add(None::<i64>),
            Arg::Int(number) => bound.add(Some(number)),
            Arg::Text(text) => bound.add(text),
            Arg::Bytes(bytes) => bound.add(bytes),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(sqlx::query_with(sql, bound))
}

/// A connection, lent for some statements.
pub(super) struct Connection<'c>(On<&'c mut SqliteConnection, &'c mut MySqlConnection>);

impl<'c> From<&'c mut SqliteConnection> for Connection<'c> {
    fn from(connection: &'c mut SqliteConnection) -> Self {
        Self(On::Sqlite(connection))
    }
}

impl<'c> From<&'c mut MySqlConnection> for Connection<'c> {
    fn from(connection: &'c mut MySqlConnection) -> Self {
        Self(On::MySql(connection))
    }
}

impl Connection<'_> {
    /// Where the two have nothing in common.
    pub(super) const fn is_sqlite(&self) -> bool {
        matches!(self.0, On::Sqlite(_))
    }

    /// Runs a prepared statement; answers how many rows it matched.
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> std::result::Result<u64, sqlx::Error> {
        Ok(match &mut self.0 {
            On::Sqlite(connection) => connection.execute(query(sql, args)?).await?.rows_affected(),
            On::MySql(connection) => connection.execute(query(sql, args)?).await?.rows_affected(),
        })
    }

    /// All rows of a prepared statement.
    pub(super) async fn fetch(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> std::result::Result<Vec<Row>, sqlx::Error> {
        Ok(match &mut self.0 {
            On::Sqlite(connection) => {
                let rows = connection.fetch_all(query(sql, args)?).await?;
                rows.into_iter().map(|row| Row(On::Sqlite(row))).collect()
            }
            On::MySql(connection) => {
                let rows = connection.fetch_all(query(sql, args)?).await?;
                rows.into_iter().map(|row| Row(On::MySql(row))).collect()
            }
        })
    }

    /// The one row of a prepared statement, if there is one.
    pub(super) async fn fetch_one(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> std::result::Result<Option<Row>, sqlx::Error> {
        Ok(self.fetch(sql, args).await?.pop())
    }

    /// Runs plain statements, without arguments and unprepared: transaction control, pragmas, DDL.
    pub(super) async fn run(&mut self, sql: &'static str) -> std::result::Result<(), sqlx::Error> {
        match &mut self.0 {
            On::Sqlite(connection) => connection.execute(sqlx::raw_sql(sql)).await.map(drop),
            On::MySql(connection) => connection.execute(sqlx::raw_sql(sql)).await.map(drop),
        }
    }
}

/// A row of a result.
pub(super) struct Row(On<SqliteRow, MySqlRow>);

/// Takes a row's columns one after the other, in the order of the statement.
pub(super) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl Row {
    pub(super) const fn columns(&self) -> Columns<'_> {
        Columns { row: self, next: 0 }
    }

    /// Decodes the row.
    pub(super) fn read<T>(&self, read: impl FnOnce(&mut Columns<'_>) -> Result<T>) -> Result<T> {
        read(&mut self.columns())
    }
}

/// Something in a row that was never written by this program.
fn odd(column: usize, what: &str) -> Failure {
    Failure::corrupt(format!("column {column} holds no {what}"))
}

impl Columns<'_> {
    // Text too: MySQL calls compared text binary, and both drivers give every text as bytes.
    fn opt_bytes(&mut self) -> Result<Option<&[u8]>> {
        let column = self.advance();
        match &self.row.0 {
            On::Sqlite(row) => sqlx::Row::try_get(row, column),
            On::MySql(row) => sqlx::Row::try_get(row, column),
        }
        .map_err(Failure::corrupt)
    }

    const fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// Whether the next column is null; it is still to be taken. What was joined and not found begins with one.
    pub(super) fn is_null(&self) -> Result<bool> {
        match &self.row.0 {
            On::Sqlite(row) => sqlx::Row::try_get_raw(row, self.next).map(|value| value.is_null()),
            On::MySql(row) => sqlx::Row::try_get_raw(row, self.next).map(|value| value.is_null()),
        }
        .map_err(Failure::corrupt)
    }

    /// A key of whatever length.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>> {
        let value = self.opt_bytes()?.map(<[u8]>::to_vec);
        self.some(value)
    }

    fn some<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| odd(self.next - 1, "value"))
    }

    pub(super) fn opt_array<const N: usize>(&mut self) -> Result<Option<[u8; N]>> {
        let column = self.next;
        self.opt_bytes()?.map(|bytes| bytes.try_into().map_err(|_| odd(column, "value of its length"))).transpose()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let value = self.opt_array()?;
        self.some(value)
    }

    pub(super) fn opt_id<I: From<Uuid>>(&mut self) -> Result<Option<I>> {
        Ok(self.opt_array()?.map(|bytes| I::from(Uuid::from_bytes(bytes))))
    }

    pub(super) fn id<I: From<Uuid>>(&mut self) -> Result<I> {
        let value = self.opt_id()?;
        self.some(value)
    }

    pub(super) fn opt_text(&mut self) -> Result<Option<String>> {
        let column = self.next;
        self.opt_bytes()?.map(|bytes| String::from_utf8(bytes.to_vec()).map_err(|_| odd(column, "text"))).transpose()
    }

    pub(super) fn text(&mut self) -> Result<String> {
        let value = self.opt_text()?;
        self.some(value)
    }

    pub(super) fn opt_int(&mut self) -> Result<Option<i64>> {
        let column = self.advance();
        match &self.row.0 {
            On::Sqlite(row) => sqlx::Row::try_get(row, column),
            On::MySql(row) => sqlx::Row::try_get(row, column),
        }
        .map_err(Failure::corrupt)
    }

    pub(super) fn int(&mut self) -> Result<i64> {
        let value = self.opt_int()?;
        self.some(value)
    }

    /// A number that is never negative.
    pub(super) fn opt_count<N: TryFrom<i64>>(&mut self) -> Result<Option<N>> {
        let column = self.next;
        self.opt_int()?.map(|number| N::try_from(number).map_err(|_| odd(column, "number of its range"))).transpose()
    }

    pub(super) fn count<N: TryFrom<i64>>(&mut self) -> Result<N> {
        let value = self.opt_count()?;
        self.some(value)
    }

    pub(super) fn flag(&mut self) -> Result<bool> {
        Ok(self.int()? != 0)
    }

    pub(super) fn opt_time(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.opt_int()?.map(Timestamp::from_micros))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        self.int().map(Timestamp::from_micros)
    }

    pub(super) fn version(&mut self) -> Result<Version> {
        self.count().map(Version)
    }

    /// One of a closed set of kinds.
    pub(super) fn kind<C: Code>(&mut self) -> Result<C> {
        let column = self.next;
        C::from_code(self.int()?).ok_or_else(|| odd(column, "kind that is known"))
    }
}
