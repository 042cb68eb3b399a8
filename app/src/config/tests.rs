use std::collections::BTreeSet;

use super::*;

fn variables(given: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    given.iter().map(|(name, text)| (OsString::from(name), OsString::from(text))).collect()
}

/// The settings of these variables alone.
fn env(given: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::of(None, variables(given))
}

/// The settings of a file `c.toml` and these variables.
fn load(file: &str, given: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, file).unwrap();
    // Messages name the file; its folder is another one each time.
    Config::of(Some(&path), variables(given))
        .map_err(|error| ConfigError(error.0.replace(&format!("{}/", folder.path().display()), "")))
}

fn text(config: &Config, key: &str) -> String {
    config.figment().extract_inner(key).unwrap()
}

#[test]
fn without_a_file_and_an_environment_it_runs() {
    let config = env(&[]).unwrap();
    assert_eq!((config.server.host.as_str(), config.server.port), ("127.0.0.1", 8000));
    assert_eq!(config.database.backend, "sqlite");
    assert_eq!((config.storage.backend, config.events.backend), (StorageBackend::Fs, EventsBackend::Memory));
    assert_eq!(config.data_dir, PathBuf::from("data"));
    assert_eq!(config.security.jwt_private_key_path, PathBuf::from("keys/private.pem"));
    assert_eq!(config.security.encryption_key_file, PathBuf::from("keys/encryption.key"));
    assert_eq!(config.security.lifetimes(), Lifetimes::default());
    assert_eq!(config.inference.limits(), ReplyLimits::default());
    assert_eq!(config.reply_caps(), ReplyCaps { of_user: Some(8), in_workspace: Some(100), here: Some(2_000) });
    assert!(config.inference.titles);
    assert!(
        config.rate_limit.enabled && config.cors.allowed_origins.is_empty() && config.security.setup_token.is_none()
    );
    assert!(config.provider_names().is_empty());
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn each_layer_lies_over_the_one_before() {
    let file = "[database.mysql]\nhost = 'file'\nuser = 'file'\nport = 1\n[server]\nport = 1";
    let config = load(
        file,
        &[
            ("MYSQL_HOST", "plain"),
            ("MYSQL_PORT", "2"),
            ("PRIVATE_CHAT_DATABASE__MYSQL__PORT", "3"),
            ("PRIVATE_CHAT_SERVER__PORT", "4"),
        ],
    )
    .unwrap();
    assert_eq!(text(&config, "database.mysql.database"), "chat_db");
    assert_eq!(text(&config, "database.mysql.user"), "file");
    assert_eq!(text(&config, "database.mysql.host"), "plain");
    assert_eq!(config.figment().extract_inner::<u16>("database.mysql.port").unwrap(), 3);
    assert_eq!(config.server.port, 4);
}

#[test]
fn a_plain_name_selects_its_adapter() {
    for name in ["MYSQL_HOST", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DATABASE"] {
        assert_eq!(env(&[(name, "x")]).unwrap().database.backend, "mysql", "{name}");
    }
    assert_eq!(env(&[("MYSQL_PORT", "3307")]).unwrap().database.backend, "mysql");
    for name in ["MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_BUCKET"] {
        assert_eq!(env(&[(name, "x")]).unwrap().storage.backend, StorageBackend::S3, "{name}");
    }
    for (name, provider, kind) in [
        ("OPENAI_API_KEY", "openai", "openai"),
        ("OPENAI_BASE_URL", "openai", "openai"),
        ("VLLM_ENDPOINT", "vllm", "vllm"),
    ] {
        let config = env(&[(name, "x")]).unwrap();
        assert_eq!(config.provider_names(), [provider], "{name}");
        assert_eq!(text(&config, &format!("inference.providers.{provider}.kind")), kind);
    }
    let config = env(&[("VLLM_ENDPOINT", "http://gpu:8000"), ("VLLM_API_KEY", "k"), ("OPENAI_API_KEY", "sk")]).unwrap();
    assert_eq!(config.provider_names(), ["openai", "vllm"]);
    assert_eq!(text(&config, "inference.providers.vllm.api_key"), "k");
    assert!(env(&[("VLLM_API_KEY", "k")]).unwrap().provider_names().is_empty());
}

#[test]
fn a_backend_that_is_named_outright_stays() {
    let mysql = ("MYSQL_HOST", "db");
    assert_eq!(load("[database]\nbackend = 'sqlite'", &[mysql]).unwrap().database.backend, "sqlite");
    let named = env(&[mysql, ("PRIVATE_CHAT_DATABASE__BACKEND", "sqlite")]).unwrap();
    assert_eq!(named.database.backend, "sqlite");
    let file = "[inference.providers.openai]\nkind = 'vllm'\nbase_url = 'http://gpu'";
    let config = load(file, &[("OPENAI_API_KEY", "k")]).unwrap();
    assert_eq!(text(&config, "inference.providers.openai.kind"), "vllm");
    assert_eq!(text(&config, "inference.providers.openai.api_key"), "k");
}

#[test]
fn a_text_that_looks_like_something_else_stays_a_text() {
    for odd in ["12345", "007", "true", "1e5", "[a]", "{x=1}", "\"quoted\"", " padded ", "a=b", "3.14", "äö"] {
        let config = env(&[("MYSQL_PASSWORD", odd), ("PRIVATE_CHAT_SECURITY__SETUP_TOKEN", odd)]).unwrap();
        assert_eq!(text(&config, "database.mysql.password"), odd);
        assert_eq!(config.security.setup_token.unwrap().expose(), odd);
    }
}

#[test]
fn every_kind_of_value_can_come_from_the_environment() {
    let config = env(&[
        ("PRIVATE_CHAT_SERVER__TRUSTED_PROXIES", r#"["10.0.0.0/8", "::1"]"#),
        ("PRIVATE_CHAT_CORS__ALLOWED_ORIGINS", r#"['http://localhost:5173']"#),
        ("PRIVATE_CHAT_RATE_LIMIT__ENABLED", "false"),
        ("PRIVATE_CHAT_INFERENCE__IDLE_TIMEOUT", "1500ms"),
        ("PRIVATE_CHAT_DATA_DIR", "/var/lib/private-chat"),
        ("PRIVATE_CHAT_SERVER__PUBLIC_URL", "https://chat.example.org/"),
        ("PRIVATE_CHAT_LOG__FORMAT", "json"),
        ("PRIVATE_CHAT_INFERENCE__PROVIDERS__LOCAL__KIND", "vllm"),
        ("PRIVATE_CHAT_INFERENCE__PROVIDERS__LOCAL__MODELS", r#"["llama", "007"]"#),
        ("PRIVATE_CHAT_INFERENCE__PROVIDERS__LOCAL__CONTEXT_LENGTH", "8192"),
        ("PRIVATE_CHAT_INFERENCE__DEFAULT_MODEL", "local/llama"),
    ])
    .unwrap();
    let proxies: Vec<String> = config.server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(config.cors.allowed_origins, ["http://localhost:5173"]);
    assert!(!config.rate_limit.enabled);
    assert_eq!(config.inference.idle_timeout, Duration::from_millis(1500));
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/private-chat"));
    assert_eq!(config.server.public_url.as_deref(), Some("https://chat.example.org"));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.provider_names(), ["local"]);
    let models: Vec<String> = config.figment().extract_inner("inference.providers.local.models").unwrap();
    assert_eq!(models, ["llama", "007"]);
}

// R84
#[test]
fn caps_on_running_replies_are_set_one_by_one() {
    let user = ("PRIVATE_CHAT_INFERENCE__MAX_RUNNING_REPLIES_PER_USER", "3");
    let workspace = ("PRIVATE_CHAT_INFERENCE__MAX_RUNNING_REPLIES_PER_WORKSPACE", "30");
    let here = ("PRIVATE_CHAT_INFERENCE__MAX_RUNNING_REPLIES", "300");
    let titles = ("PRIVATE_CHAT_INFERENCE__TITLES", "false");
    let config = env(&[user, workspace, here, titles]).unwrap();
    assert_eq!(config.reply_caps(), ReplyCaps { of_user: Some(3), in_workspace: Some(30), here: Some(300) });
    assert!(!config.inference.titles);
    let file = "[inference]\nmax_running_replies_per_user = 2\ntitles = false\n[rate_limit]\nenabled = true";
    let config = load(file, &[]).unwrap();
    assert_eq!(config.reply_caps().of_user, Some(2));
    assert!(!config.inference.titles);
    // What people are kept to can be switched off; what the process can carry is another matter.
    let off = ("PRIVATE_CHAT_RATE_LIMIT__ENABLED", "false");
    let config = env(&[user, workspace, here, off]).unwrap();
    assert_eq!(config.reply_caps(), ReplyCaps { of_user: None, in_workspace: None, here: Some(300) });
    for (name, _) in [user, workspace, here] {
        let key = name.strip_prefix("PRIVATE_CHAT_").unwrap().to_lowercase().replace("__", ".");
        for bad in ["0", "-1", "1.5", "many", "true"] {
            let error = env(&[(name, bad)]).unwrap_err().to_string();
            assert!(error.contains(&key) && error.contains(name), "{bad}: {error}");
        }
    }
    let error = env(&[("PRIVATE_CHAT_INFERENCE__TITLES", "perhaps")]).unwrap_err().to_string();
    assert!(error.contains("inference.titles"), "{error}");
}

#[test]
fn an_empty_variable_is_none() {
    let config =
        env(&[("MYSQL_HOST", ""), ("OPENAI_API_KEY", ""), ("PRIVATE_CHAT_SERVER__PORT", ""), ("PRIVATE_CHAT_X", "")]);
    let config = config.unwrap();
    assert_eq!((config.database.backend.as_str(), config.server.port), ("sqlite", 8000));
    assert!(config.provider_names().is_empty());
}

#[test]
fn variables_of_others_are_left_alone() {
    env(&[("CHAT_TEST_REQUIRE", "mysql"), ("MYSQL_ROOT_PASSWORD", "x"), ("PORT", "x"), ("PRIVATE_CHAT", "x")]).unwrap();
}

/// What is wrong, and every word that must be said of it.
#[test]
fn a_mistake_is_named_with_its_source_and_the_way_out() {
    let file_mistakes: [(&str, &[&str]); 14] = [
        ("[server]\nprot = 1", &["c.toml", "`server.prot`", "`server.port`"]),
        ("[sever]\nport = 1", &["c.toml", "`sever`", "`server`"]),
        ("[server]\nsomething = 1", &["c.toml", "`server.something`", "host", "port"]),
        ("server = 1", &["c.toml", "`server`", "section"]),
        ("[server]\nport = '80'", &["c.toml", "`server.port`", "whole number"]),
        ("[server]\nport = 80.5", &["c.toml", "`server.port`", "whole number"]),
        ("[server]\nport = 70000", &["c.toml", "`server.port`", "0 to 65535"]),
        ("[server]\nport = -1", &["c.toml", "`server.port`", "0 to 65535"]),
        ("[storage]\nbackend = 'gcs'", &["c.toml", "`storage.backend`", "`fs` or `s3`"]),
        ("[cors]\nallowed_origins = 'https://a.example'", &["c.toml", "`cors.allowed_origins`", "list"]),
        ("[cors]\nallowed_origins = ['*']", &["c.toml", "`cors.allowed_origins`", "any page"]),
        ("[inference.providers.'a b']\nkind = 'echo'", &["c.toml", "`inference.providers.a b`", "letters"]),
        ("[inference.providers.a]\nurl = 'x'", &["c.toml", "`inference.providers.a.url`", "base_url"]),
        ("\n[server\nport = 1", &["c.toml", "line 2", "TOML"]),
    ];
    for (file, words) in file_mistakes {
        let said = load(file, &[]).unwrap_err().to_string();
        for word in words {
            assert!(said.contains(word), "{file}\n{said}\n{word}");
        }
    }
    let mistakes: [(&str, &str, &[&str]); 16] = [
        ("PRIVATE_CHAT_SERVER__PROT", "1", &["PRIVATE_CHAT_SERVER__PROT", "PRIVATE_CHAT_SERVER__PORT"]),
        ("PRIVATE_CHAT_SERVER_PORT", "1", &["PRIVATE_CHAT_SERVER_PORT ", "PRIVATE_CHAT_SERVER__PORT"]),
        ("PRIVATE_CHAT_SERVER", "1", &["PRIVATE_CHAT_SERVER ", "no setting"]),
        ("PRIVATE_CHAT_FROBNICATE", "1", &["PRIVATE_CHAT_FROBNICATE", "two underscores"]),
        ("PRIVATE_CHAT_SERVER__PORT", "80a", &["PRIVATE_CHAT_SERVER__PORT", "`server.port`", "whole number"]),
        ("PRIVATE_CHAT_SERVER__PORT", "65536", &["PRIVATE_CHAT_SERVER__PORT", "`server.port`", "0 to 65535"]),
        (
            "PRIVATE_CHAT_SERVER__TRUSTED_PROXIES",
            "10.0.0.1",
            &["PRIVATE_CHAT_SERVER__TRUSTED_PROXIES", r#"["a", "b"]"#],
        ),
        ("PRIVATE_CHAT_SERVER__TRUSTED_PROXIES", "['10']", &["PRIVATE_CHAT_SERVER__TRUSTED_PROXIES", "10.0.0.0/8"]),
        ("PRIVATE_CHAT_SERVER__MAX_CONNECTIONS", "0", &["`server.max_connections`", "1 or more"]),
        ("PRIVATE_CHAT_RATE_LIMIT__ENABLED", "no", &["PRIVATE_CHAT_RATE_LIMIT__ENABLED", "true or false"]),
        ("PRIVATE_CHAT_SERVER__DRAIN_TIMEOUT", "30", &["PRIVATE_CHAT_SERVER__DRAIN_TIMEOUT", "\"60s\""]),
        ("PRIVATE_CHAT_SERVER__PUBLIC_URL", "chat.example.org", &["`server.public_url`", "https://"]),
        ("PRIVATE_CHAT_LOG__LEVEL", "info,=x=", &["PRIVATE_CHAT_LOG__LEVEL", "\"debug\""]),
        ("PRIVATE_CHAT_LOG__FORMAT", "xml", &["PRIVATE_CHAT_LOG__FORMAT", "`pretty` or `json`"]),
        ("MYSQL_PORT", "tcp://10.0.0.1:3306", &["the environment variable MYSQL_PORT", "whole number such as 3306"]),
        (
            "PRIVATE_CHAT_INFERENCE__PROVIDERS__A__KEY",
            "x",
            &["PRIVATE_CHAT_INFERENCE__PROVIDERS__A__KEY", "no setting"],
        ),
    ];
    for (name, value, words) in mistakes {
        let said = env(&[(name, value)]).unwrap_err().to_string();
        for word in words {
            assert!(said.contains(word), "{name}={value}\n{said}\n{word}");
        }
    }
    let said = Config::of(Some(Path::new("/does/not/exist.toml")), []).unwrap_err().to_string();
    assert!(said.contains("/does/not/exist.toml") && said.contains("No such file"), "{said}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let said = |file: &str, given: &[(&str, &str)], words: &[&str]| {
        let error = load(file, given).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{file}\n{error}\n{word}");
        }
    };
    said("[events]\nbackend = 'redis'", &[], &["c.toml", "events.redis.url"]);
    load("[events]\nbackend = 'redis'\nredis.url = 'redis://cache'", &[]).unwrap();
    said("[inference]\nmax_reply_bytes = 8388609", &[], &["inference.max_reply_bytes", "8388608"]);
    load("[inference]\nmax_reply_bytes = 8388608", &[]).unwrap();
    said("", &[("JWT_PUBLIC_KEY_PATH", "p.pem")], &["JWT_PUBLIC_KEY_PATH", "JWT_PRIVATE_KEY_PATH"]);
    load("", &[("JWT_PUBLIC_KEY_PATH", "p.pem"), ("JWT_PRIVATE_KEY_PATH", "s.pem")]).unwrap();
    load("", &[("JWT_PRIVATE_KEY_PATH", "s.pem")]).unwrap();
    said("[security]\nsetup_token = 'a'\nsetup_token_file = 'b'", &[], &["setup_token_file", "together"]);
    said("[security]\nsetup_token_file = '/does/not/exist'", &[], &["setup_token_file", "/does/not/exist"]);
    said("[security]\naccess_token_lifetime = '31d'", &[], &["access_token_lifetime", "longer"]);
    said("[security]\nsession_lifetime = '0s'", &[], &["session_lifetime", "1s"]);
    said("[security]\nsession_lifetime = '40000d'", &[], &["session_lifetime", "36500d"]);
    let model = ("PRIVATE_CHAT_INFERENCE__DEFAULT_MODEL", "vllm/llama");
    said("", &[model], &["PRIVATE_CHAT_INFERENCE__DEFAULT_MODEL", "`vllm`", "configured: echo"]);
    said("", &[model, ("OPENAI_API_KEY", "k")], &["`vllm`", "configured: openai"]);
    said("", &[("PRIVATE_CHAT_INFERENCE__DEFAULT_MODEL", "llama")], &["provider and its model"]);
    load("", &[model, ("VLLM_ENDPOINT", "http://gpu")]).unwrap();
    load("[inference]\ndefault_model = 'echo/echo'", &[]).unwrap();
}

#[test]
fn a_setup_token_may_lie_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let read = || env(&[("PRIVATE_CHAT_SECURITY__SETUP_TOKEN_FILE", path.to_str().unwrap())]);
    std::fs::write(&path, "s3cret\n").unwrap();
    assert_eq!(read().unwrap().security.setup_token.unwrap().expose(), "s3cret");
    std::fs::write(&path, "\n").unwrap();
    assert!(read().unwrap_err().to_string().contains("empty"));
}

// R89
#[test]
fn secrets_show_nowhere() {
    const CANARY: &str = "canary-5f1d";
    let secret = |key: &str| format!("PRIVATE_CHAT_{}", key.to_ascii_uppercase().replace('.', "__"));
    let keys = [
        "database.mysql.password",
        "storage.s3.access_key",
        "storage.s3.secret_key",
        "inference.providers.openai.api_key",
        "security.setup_token",
        "events.redis.url",
    ];
    let names: Vec<String> = keys.iter().map(|key| secret(key)).collect();
    let given: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), CANARY)).collect();
    let config = env(&given).unwrap();
    let shown = format!("{config:?} {:?}", config.warnings());
    assert!(!shown.contains(CANARY), "{shown}");
    for key in keys {
        assert!(layers::is_secret(key), "{key}");
    }

    // Neither do they when they are mistaken for something else, or stand in a broken line.
    for file in [
        format!("[database.mysql]\npassword = ['{CANARY}']"),
        format!("[database.mysql]\npassword = {{ {CANARY} = 1 }}"),
        format!("[database.mysql]\npassword = '{CANARY}"),
        format!("[database.mysql]\npassword = {CANARY}"),
        format!("[database.mysql]\nport = '{CANARY}'"),
        format!("[storage]\nbackend = '{CANARY}'"),
        format!("[server]\npublic_url = 'https://me:{CANARY}@example.org'"),
        format!("[security]\nsetup_token = '{CANARY}'\nsetup_token_file = 'x'"),
    ] {
        let said = load(&file, &[]).unwrap_err().to_string();
        assert!(!said.contains(CANARY), "{said}");
    }
    let number = load("[database.mysql]\npassword = 5551234", &[]).unwrap_err().to_string();
    assert!(number.contains("`database.mysql.password`") && !number.contains("5551234"), "{number}");
}

#[test]
fn an_adapters_own_mistake_is_told_in_the_same_words() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Section {
        #[expect(dead_code, reason = "only its type matters")]
        port: u8,
    }
    let config = env(&[("MYSQL_PORT", "3307")]).unwrap();
    let said = |error: figment::Error| ConfigError::from(error).to_string();
    let error = config.figment().extract_inner::<Section>("database.mysql").unwrap_err();
    assert!(said(error.clone()).contains("has no key `database`"), "{}", said(error));
    let expected =
        "`database.mysql.port`, from the environment variable MYSQL_PORT, must be a whole number from 0 to 255";
    assert_eq!(said(config.figment().extract_inner::<u8>("database.mysql.port").unwrap_err()), expected);
    #[derive(Debug, Deserialize)]
    struct Loose {
        #[expect(dead_code, reason = "only its type matters")]
        port: u8,
    }
    assert_eq!(said(config.figment().extract_inner::<Loose>("database.mysql").unwrap_err()), expected);
    assert_eq!(
        config.wrong("database.mysql.port", "must be odd").to_string(),
        "`database.mysql.port`, from the environment variable MYSQL_PORT, must be odd"
    );
}

#[test]
fn an_adapter_from_elsewhere_has_its_own_section() {
    let file = "[database]\nbackend = 'mongo'\n[database.mongo]\nurl = 'mongodb://db'\ndeep.er = 1";
    let config = load(file, &[]).unwrap();
    assert_eq!(text(&config, "database.mongo.url"), "mongodb://db");
    load("[database.mongo]\nurl = 'mongodb://db'", &[]).unwrap_err();
}

#[test]
fn what_is_without_effect_or_dangerous_is_warned_of() {
    let warned = |given: &[(&str, &str)]| env(given).unwrap().warnings().join("\n");
    let minio = warned(&[("MINIO_ENDPOINT", "minio:9000")]);
    assert!(minio.contains("storage.s3.endpoint, from the environment variable MINIO_ENDPOINT"), "{minio}");
    assert!(minio.contains("everybody knows: set MINIO_ACCESS_KEY"), "{minio}");
    let own = warned(&[("MINIO_ACCESS_KEY", "a"), ("MINIO_SECRET_KEY", "b")]);
    assert!(!own.contains("everybody knows"), "{own}");
    assert!(warned(&[("MYSQL_HOST", "db")]).contains("set MYSQL_PASSWORD"));
    assert_eq!(warned(&[("MYSQL_PASSWORD", "own")]), "");
    assert!(warned(&[("PRIVATE_CHAT_RATE_LIMIT__ENABLED", "false")]).contains("nothing slows down guessing"));
    assert_eq!(warned(&[("PRIVATE_CHAT_RATE_LIMIT__ENABLED", "true")]), "");
    for (name, value) in [("FILES__MAX_SIZE", "1"), ("WEB__ENABLED", "false"), ("EVENTS__REDIS__URL", "redis://x")] {
        let said = warned(&[(&format!("PRIVATE_CHAT_{name}"), value)]);
        assert!(said.contains("without effect") && said.contains(name), "{said}");
    }
}

/// The lines of a TOML file that set a key, by its full name, with the line above.
fn set_in(text: &str) -> Vec<(String, String)> {
    let (mut section, mut above, mut found) = (String::new(), String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            found.push((format!("{section}{key}"), above.clone()));
        }
        above = line.to_owned();
    }
    found
}

#[test]
fn every_key_of_the_contract_is_in_the_defaults_with_a_comment() {
    let found = set_in(include_str!("../../../config/default.toml"));
    for (key, above) in &found {
        assert!(above.starts_with("# "), "{key} has no comment");
    }
    // That every one of them is read, and that none is missing, is what deserializing them proves: no field has another default.
    let written: BTreeSet<String> = found.into_iter().map(|(key, _)| key).collect();
    assert_eq!(written, layers::keys().unwrap().into_iter().collect());
    for key in "server.host server.port server.trusted_proxies cors.allowed_origins rate_limit.enabled log.format log.level \
                database.backend storage.backend events.backend events.redis.url inference.default_model \
                inference.first_byte_timeout inference.idle_timeout inference.max_reply_bytes data_dir server.public_url \
                storage.public_endpoint security.encryption_key_file files.max_size files.allowed_types web.enabled"
        .split_whitespace()
    {
        assert!(written.contains(key), "{key}");
    }
}

#[test]
fn the_examples_are_valid() {
    for name in ["development", "production.example"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../config/{name}.toml"));
        Config::of(Some(&path), []).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = std::fs::read_to_string(path).unwrap();
        let explained = |(key, above): &(String, String)| assert!(above.starts_with("# "), "{name}: {key}");
        set_in(&text).iter().for_each(explained);
    }
}
