//! The command line: `private-chat [--config FILE] [COMMAND]`.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command as Clap};

/// What the program is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        for command in ["serve", "migrate", "openapi", "config", "health", "--config"] {
            assert!(help.contains(command), "{help}");
        }
    }
}
