//! The command line: `private-chat [--config FILE] [COMMAND]`.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command as Clap};

/// What the program is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answer requests until told to stop. What it does when nothing is said.
    Serve,
    /// Bring the database to the schema of this version.
    Migrate,
    /// Print the OpenAPI document.
    Openapi,
    /// Check the settings and whatever they name.
    ConfigCheck,
    /// Ask the running server whether it is ready.
    Health,
    /// Do what an operator does to accounts.
    Admin {
        /// What.
        command: Admin,
        /// Whether the password is the first line of the standard input; else it is asked for at the terminal.
        password_stdin: bool,
    },
}

/// What an operator does to accounts, at the machine itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Make an administrator.
    Create {
        /// Their address.
        email: String,
        /// Their name.
        name: String,
    },
    /// Give an account another password.
    ResetPassword {
        /// Whose.
        email: String,
        /// Whether they must replace it before anything else.
        must_change: bool,
    },
}

/// A command line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cli {
    /// The file with the settings.
    pub config: Option<PathBuf>,
    /// What to do.
    pub command: Command,
}

impl Cli {
    /// Takes the arguments, the program's name first.
    ///
    /// # Errors
    /// What to print, and the code to end with: 0 for `--help` and `--version`, 2 for what is not understood. [`clap::Error::exit`] does both.
    pub fn parse_from<T: Into<std::ffi::OsString> + Clone>(
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        let matches = definition().try_get_matches_from(arguments)?;
        let command = match matches.subcommand() {
            Some(("migrate", _)) => Command::Migrate,
            Some(("openapi", _)) => Command::Openapi,
            Some(("config", _)) => Command::ConfigCheck,
            Some(("health", _)) => Command::Health,
            Some(("admin", admin)) => admin_of(admin),
            _ => Command::Serve,
        };
        Ok(Self { config: config_of(&matches), command })
    }
}

/// `--config`, wherever it stands.
fn config_of(matches: &ArgMatches) -> Option<PathBuf> {
    let inner = matches.subcommand().and_then(|(_, inner)| config_of(inner));
    inner.or_else(|| matches.get_one::<PathBuf>("config").cloned())
}

fn admin_of(matches: &ArgMatches) -> Command {
    // Where the definition asks for a value, there is one.
    let text = |matches: &ArgMatches, id| matches.get_one::<String>(id).cloned().unwrap_or_default();
    let (name, matches) = matches.subcommand().unwrap_or(("create", matches));
    let command = match name {
        "reset-password" => {
            Admin::ResetPassword { email: text(matches, "email"), must_change: matches.get_flag("must-change") }
        }
        _ => Admin::Create { email: text(matches, "email"), name: text(matches, "name") },
    };
    Command::Admin { command, password_stdin: matches.get_flag("password-stdin") }
}

fn definition() -> Clap {
    let config = Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .value_parser(ValueParser::path_buf())
        .global(true)
        .help("Read settings from this TOML file; the environment stands above it");
    Clap::new("private-chat")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Self-hosted, multi-workspace AI chat")
        .after_help(
            "Without settings it runs on SQLite in ./data and answers with the built-in `echo` model.\n\
             Every setting is a variable PRIVATE_CHAT_SECTION__KEY, such as PRIVATE_CHAT_SERVER__PORT=8000.",
        )
        .arg(config)
        .subcommand(Clap::new("serve").about("Answer requests until told to stop (the default)"))
        .subcommand(Clap::new("migrate").about("Bring the database to the schema of this version, and end"))
        .subcommand(Clap::new("openapi").about("Print the OpenAPI document"))
        .subcommand(
            Clap::new("config")
                .about("Look after the settings")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(Clap::new("check").about("Check the settings, and whether what they name is there")),
        )
        .subcommand(Clap::new("health").about("Ask the running server whether it is ready; ends with 0 if it is"))
        .subcommand(admin())
}

const ADMIN_HELP: &str = "\
The password is asked for at the terminal, or is the first line of the standard input; it is never an argument.
All of it works beside a running server and before the first start: the database is brought to the schema of this
version, as `serve` does. On success one line tells the account: its id, a space, its email.

Exit codes:
  0  done
  1  failed: the database is away, the keys are not those of this installation, …
  2  the command line, a setting or a value is not acceptable
  3  create: an account with this email exists already
  4  reset-password: there is no account with this email";

fn admin() -> Clap {
    let email = |help: &'static str| Arg::new("email").long("email").value_name("EMAIL").required(true).help(help);
    let name = Arg::new("name").long("name").value_name("NAME").required(true).help("Their name");
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let from_stdin = flag("password-stdin", "Take the first line of the standard input as the password");
    let create = Clap::new("create")
        .about("Make an administrator: the first one, which completes the setup, or one more")
        .arg(email("Their email"))
        .arg(name)
        .arg(from_stdin.clone());
    let reset_password = Clap::new("reset-password")
        .about("Give an account another password, and end all its sessions")
        .arg(email("The email of the account"))
        .arg(from_stdin)
        .arg(flag("must-change", "Let them do nothing before they have replaced it"));
    Clap::new("admin")
        .about("Make administrators, and let people in again who forgot their password")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(ADMIN_HELP)
        .subcommand(create.after_help(ADMIN_HELP))
        .subcommand(reset_password.after_help(ADMIN_HELP))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn it_serves_unless_told_otherwise() {
        for (line, config, command) in [
            ("private-chat", None, Command::Serve),
            ("private-chat serve", None, Command::Serve),
            ("private-chat --config a.toml", Some("a.toml"), Command::Serve),
            ("private-chat --config a.toml migrate", Some("a.toml"), Command::Migrate),
            ("private-chat migrate --config a.toml", Some("a.toml"), Command::Migrate),
            ("private-chat openapi", None, Command::Openapi),
            ("private-chat config check -c a.toml", Some("a.toml"), Command::ConfigCheck),
            ("private-chat --config=a.toml config check", Some("a.toml"), Command::ConfigCheck),
            ("private-chat health", None, Command::Health),
        ] {
            let cli = parse(line).unwrap();
            assert_eq!(cli, Cli { config: config.map(PathBuf::from), command }, "{line}");
        }
    }

    #[test]
    fn an_operator_names_an_account_and_never_a_password() {
        let create = |password_stdin| Command::Admin {
            command: Admin::Create { email: "ann@example.com".to_owned(), name: "Ann".to_owned() },
            password_stdin,
        };
        let reset = |must_change, password_stdin| Command::Admin {
            command: Admin::ResetPassword { email: "ann@example.com".to_owned(), must_change },
            password_stdin,
        };
        for (line, config, command) in [
            ("create --email ann@example.com --name Ann", None, create(false)),
            ("create --name=Ann --password-stdin --email=ann@example.com -c a.toml", Some("a.toml"), create(true)),
            ("reset-password --email ann@example.com", None, reset(false, false)),
            ("reset-password --must-change --email ann@example.com --password-stdin", None, reset(true, true)),
        ] {
            let cli = parse(&format!("private-chat admin {line}")).unwrap();
            assert_eq!(cli, Cli { config: config.map(PathBuf::from), command }, "{line}");
        }
        for bad in [
            "admin",
            "admin create",
            "admin create --email ann@example.com",
            "admin create --name Ann",
            "admin create --email ann@example.com --name Ann --password secret",
            "admin create --email ann@example.com --name Ann --must-change",
            "admin create --email ann@example.com --name Ann secret",
            "admin reset-password",
            "admin reset-password --email ann@example.com --name Ann",
        ] {
            assert_eq!(parse(&format!("private-chat {bad}")).unwrap_err().exit_code(), 2, "{bad}");
        }
        for command in ["admin", "admin create", "admin reset-password"] {
            let help = parse(&format!("private-chat {command} --help")).unwrap_err();
            assert_eq!(help.exit_code(), 0);
            assert!(help.to_string().contains("Exit codes:"), "{help}");
        }
    }

    #[test]
    fn what_is_not_understood_ends_with_two_and_help_with_zero() {
        for bad in [
            "private-chat sevre",
            "private-chat --confg a.toml",
            "private-chat config",
            "private-chat config chekc",
            "private-chat serve now",
            "private-chat --config",
        ] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        assert!(parse("private-chat sevre").unwrap_err().to_string().contains("serve"));
        for good in ["private-chat --help", "private-chat help", "private-chat --version", "private-chat config --help"]
        {
            assert_eq!(parse(good).unwrap_err().exit_code(), 0, "{good}");
        }
        let help = parse("private-chat --help").unwrap_err().to_string();
        for command in ["serve", "migrate", "openapi", "config", "health", "admin", "--config"] {
            assert!(help.contains(command), "{help}");
        }
    }
}
