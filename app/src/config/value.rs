//! The kinds of values that settings have. What they refuse they say as a rule, "must be …", which never repeats the value: it may be a secret.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use private_chat_core::model::secret::Secret;
use reqwest::Url;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tracing_subscriber::EnvFilter;

/// A network of IP addresses, such as `10.0.0.0/8`; a single address is the network of that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address lies in it. An IPv4 address is the same when it comes as `::ffff:a.b.c.d`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |own: &[u8], other: &[u8]| {
            let (whole, bits) = (usize::from(self.prefix / 8), self.prefix % 8);
            let mask = !(0xff_u8.checked_shr(bits.into()).unwrap_or(0));
            own.get(..whole) == other.get(..whole)
                && (bits == 0 || own.get(whole).map(|byte| byte & mask) == other.get(whole).map(|byte| byte & mask))
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same(&own.octets(), &other.octets()),
            (IpAddr::V6(own), IpAddr::V6(other)) => same(&own.octets(), &other.octets()),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = r#"must list IP addresses and networks such as "10.0.0.0/8" or "::1""#;
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| RULE)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| RULE)?;
        if prefix > longest { Err(RULE) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        String::deserialize(value)?.parse().map_err(D::Error::custom)
    }
}

/// A length of time: a whole number and its unit.
pub(super) fn duration<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(value)?)
        .ok_or_else(|| D::Error::custom(r#"must be a duration such as "250ms", "60s", "15m", "12h" or "30d""#))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(unit);
    let count: u64 = count.parse().ok()?;
    let seconds = match unit.trim_start() {
        "ms" => return Some(Duration::from_millis(count)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    count.checked_mul(seconds).map(Duration::from_secs)
}

/// A text; empty for none.
pub(super) fn optional<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(value)?).filter(|text| !text.is_empty()))
}

/// A path; empty for none.
pub(super) fn optional_path<'de, D: Deserializer<'de>>(value: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(optional(value)?.map(PathBuf::from))
}

/// A path.
pub(super) fn path<'de, D: Deserializer<'de>>(value: D) -> Result<PathBuf, D::Error> {
    optional_path(value)?.ok_or_else(|| D::Error::custom("must not be empty"))
}

/// A text that says something.
pub(super) fn text<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    optional(value)?.ok_or_else(|| D::Error::custom("must not be empty"))
}

/// A secret.
pub(super) fn secret<'de, D: Deserializer<'de>>(value: D) -> Result<Secret, D::Error> {
    String::deserialize(value).map(Secret::new)
}

/// A secret; empty for none.
pub(super) fn optional_secret<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Secret>, D::Error> {
    Ok(optional(value)?.map(Secret::new))
}

/// A number of things, at least one.
pub(super) fn at_least_one<'de, D: Deserializer<'de>>(value: D) -> Result<usize, D::Error> {
    match usize::deserialize(value)? {
        0 => Err(D::Error::custom("must be a whole number of 1 or more")),
        some => Ok(some),
    }
}

/// The address of a web site, without the slash at its end; empty for none.
pub(super) fn web_address<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let Some(text) = optional(value)? else { return Ok(None) };
    let plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match Url::parse(&text) {
        Ok(url) if plain(&url) => Ok(Some(url.as_str().trim_end_matches('/').to_owned())),
        _ => Err(D::Error::custom(
            r#"must be an address such as "https://chat.example.org", without user, query and fragment"#,
        )),
    }
}

/// Web origins (RFC 6454), as browsers write them.
pub(super) fn origins<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    Vec::<String>::deserialize(value)?.iter().map(|text| origin(text).map_err(D::Error::custom)).collect()
}

fn origin(text: &str) -> Result<String, String> {
    if text.contains('*') {
        return Err("must list each origin by its name: with `*`, any page that somebody visits could call the API from their browser".into());
    }
    let rule = || {
        format!(
            "must list origins such as \"https://chat.example.org\", with scheme, host and port only; `{text}` is none"
        )
    };
    let url = Url::parse(text).map_err(|_| rule())?;
    let (scheme, rest) = text.split_once("://").ok_or_else(rule)?;
    // A path, a query or a user would never match: browsers send none of them.
    if url.host_str().is_none() || rest.contains(['/', '?', '#', '@', '\\']) {
        return Err(rule());
    }
    Ok(match url.origin() {
        origin if origin.is_tuple() => origin.ascii_serialization(),
        // The origins of desktop and mobile shells, such as `tauri://localhost`, are opaque to the URL standard.
        _ => format!("{}://{}", scheme.to_ascii_lowercase(), rest.to_ascii_lowercase()),
    })
}

/// Directives for the log.
pub(super) fn log_level<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    let level = text(value)?;
    match EnvFilter::try_new(&level) {
        Ok(_) => Ok(level),
        Err(_) => Err(D::Error::custom(
            r#"must be "error", "warn", "info", "debug" or "trace", or directives such as "info,sqlx=warn""#,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, milliseconds) in
            [("250ms", 250), ("60s", 60_000), ("15m", 900_000), ("2h", 7_200_000), ("30d", 2_592_000_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "60", "s", "-1s", "1.5s", "1w", "60sec", "60S", "99999999999999999999s", "300000000000000000d"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for (text, sent) in [
            ("https://chat.example.org", "https://chat.example.org"),
            ("https://Chat.Example.ORG:443", "https://chat.example.org"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("tauri://localhost", "tauri://localhost"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(sent), "{text}");
        }
        for bad in [
            "*",
            "https://*.example.org",
            "chat.example.org",
            "https://chat.example.org/",
            "https://chat.example.org/app",
            "https://me@chat.example.org",
            "https://chat.example.org?x",
            "null",
            "localhost:5173",
            "",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    // R10
    #[test]
    fn a_network_has_the_addresses_of_its_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("127.0.0.1", "::ffff:127.0.0.1", "::1"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1", "::1", "::2"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::1/129", "10.0.0.0/", "10.0.0.0/-1", "example.org", "*"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
