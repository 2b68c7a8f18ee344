//! `fanfare token`: mints a JWT that a daemon accepts, for tests, scripts and first steps.
//!
//! Standard output gets the token and nothing else, so that `$(fanfare token …)` works; the key is
//! never shown. How a claim is verified is not known here.

mod check;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use argh::{ArgsInfo, FromArgs};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde_json::{Map, Value};

use super::output::{note, print};
use super::{CliError, error::CliStatus, explain::explain, locate::Located, paths};
use crate::dialect::Settings;
use crate::dialect::config_table::DialectTable;
use crate::token::{mint, mint_leniently};

/// Mint a signed token (JWT) and print it.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "token",
    example = "{command_name} --cell john.doe\n\
               {command_name} --cell john.doe --scope 'read stream-receive'\n\
               {command_name} --acl websocketd --acl 'events.#' --subject USER-UUID --claim \
               'tenant_uuid=\"UUID\"'\n\
               {command_name} --channel chat:1 --id 1 --name Ann\n\
               {command_name} --config /etc/fanfare/fanfare.toml --pulsar --subject ann\n\
               {command_name} --pulsar --produce 'acme/orders/*' --consume acme/orders/done\n\
               {command_name} --config /etc/fanfare/fanfare.toml --cell john.doe --subject \
               https://example.org/#me\n\
               {command_name} --check-file token.txt\n\
               {command_name} --key-file key.pem --algorithm ES256 --cell john.doe --claim \
               'event_types=[\"chat\"]'",
    note = "Without --config, --secret-file or --key-file, the token is for the development \
            daemon if it runs (`fanfare serve` without a configuration), else for the system \
            service (/etc/fanfare/fanfare.toml).",
    note = "The manual: fanfare help tokens"
)]
pub struct TokenCommand {
    #[argh(
        option,
        arg_name = "file",
        description = "take secret and algorithm from this configuration's [personium] token, \
                       with --acl [wazo] token, with --channel [channel] token, with --pulsar \
                       [pulsar] token"
    )]
    config: Option<PathBuf>,

    /// sign with the secret in this file (HS256, HS384, HS512); line ends after it are dropped
    #[argh(option, arg_name = "file")]
    secret_file: Option<PathBuf>,

    /// sign with the private key in this PEM file (RS…, PS…, ES…, EdDSA)
    #[argh(option, arg_name = "pem")]
    key_file: Option<PathBuf>,

    /// the algorithm; default: what the configuration names first, else HS256 or what suits the
    /// key
    #[argh(option, arg_name = "name")]
    algorithm: Option<String>,

    /// the cell that the token is for (claim aud)
    #[argh(option, arg_name = "name")]
    cell: Option<String>,

    /// the privileges, separated by spaces (claim scope); default: event-read, or none with --acl,
    /// --channel or --pulsar
    #[argh(option)]
    scope: Option<String>,

    /// a pattern of Wazo's access control list (claim acl); may be repeated
    #[argh(option, arg_name = "pattern")]
    acl: Vec<String>,

    /// the channel of a Laravel application (claim channel)
    #[argh(option, arg_name = "name")]
    channel: Option<String>,

    /// the number, or else the text, by which that application knows the user (claim id)
    #[argh(option)]
    id: Option<String>,

    /// the user's name there (claim name)
    #[argh(option)]
    name: Option<String>,

    /// for producers, consumers and readers of Pulsar; may do what the daemon's default_rights
    /// say, or what the next three options name
    #[argh(switch)]
    pulsar: bool,

    /// topics of Pulsar that may be produced to, as TENANT/NAMESPACE/TOPIC where * is any text
    /// (claim pulsar_produce); may be repeated
    #[argh(option, arg_name = "glob")]
    produce: Vec<String>,

    /// topics of Pulsar that may be consumed, likewise (claim pulsar_consume); may be repeated
    #[argh(option, arg_name = "glob")]
    consume: Vec<String>,

    /// topics of Pulsar that may be read, likewise (claim pulsar_read); may be repeated
    #[argh(option, arg_name = "glob")]
    read: Vec<String>,

    /// who holds the token (claim sub)
    #[argh(option)]
    subject: Option<String>,

    /// seconds until it expires (claim exp); default: 3600
    #[argh(option, default = "3600", arg_name = "seconds")]
    expires_in_s: u64,

    #[argh(
        option,
        arg_name = "token",
        description = "make none, but say what this token grants in each dialect of the daemon, \
                       or why not; - reads it from standard input"
    )]
    check: Option<String>,

    /// the same with the token in this file
    #[argh(option, arg_name = "file")]
    check_file: Option<PathBuf>,

    /// a further claim as key=json, over any of the above; may be repeated
    #[argh(option, arg_name = "key=json")]
    claim: Vec<String>,
}

/// What a token is signed with.
#[derive(Default)]
struct SigningKey {
    bytes: Vec<u8>,
    /// Where it comes from, for messages.
    source: String,
    /// A private key in PEM rather than a shared secret.
    pem: bool,
    /// Whether any secret will do, as its verifier takes any.
    may_be_short: bool,
    /// The algorithm that its configuration names.
    algorithm: Option<Algorithm>,
}

/// What is tried, in this order, for a PEM key without `--algorithm`: each suits one kind of key.
const PEM_ALGORITHMS: [Algorithm; 4] =
    [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256];

impl TokenCommand {
    /// Prints the token.
    ///
    /// # Errors
    /// No key, a key that does not suit the algorithm, or a claim that is not JSON.
    pub fn run(self) -> Result<ExitCode, CliError> {
        if self.check.is_some() || self.check_file.is_some() {
            return check::run(
                self.check.as_deref(),
                self.check_file.as_deref(),
                self.config.as_deref(),
            );
        }
        let asked = self.algorithm.as_deref().map(algorithm_named).transpose()?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let settings = Settings::default();
        let table = self.table(&settings);
        let claims = self.claims(table, since_1970.as_secs())?;
        // By all of them: a token may be one for several dialects.
        let remarks: Result<Vec<_>, String> =
            settings.tables().map(|table| table.review(&claims)).collect();
        let remarks = remarks.map_err(CliError::new)?;
        let mut key = self.key(table.name())?;
        key.may_be_short = table.takes_short_secrets();
        let token = signed(&key, asked, &claims)?;
        // A note only: a token may be made to be refused, in a test.
        for remark in remarks.into_iter().flatten() {
            note(&format!("note: {remark}"));
        }
        print(&format!("{token}\n"))?;
        Ok(ExitCode::SUCCESS)
    }

    fn claims(&self, table: &dyn DialectTable, now_s: u64) -> Result<Map<String, Value>, CliError> {
        let exp = now_s.checked_add(self.expires_in_s).filter(|_| self.expires_in_s > 0);
        let exp = exp
            .ok_or_else(|| CliError::usage("--expires-in-s must be at least 1, and no eternity"))?;
        let mut claims = Map::new();
        claims.insert("iat".into(), now_s.into());
        claims.insert("exp".into(), exp.into());
        if let Some(scope) = table.usual_scope().filter(|_| self.scope.is_none()) {
            claims.insert("scope".into(), scope.into());
        }
        claims.extend(self.options().map(|(name, value)| (name.to_owned(), value)));
        for claim in &self.claim {
            let (name, value) = further_claim(claim)?;
            claims.insert(name, value);
        }
        Ok(claims)
    }

    /// The claims that options stand for, as far as they are given.
    fn options(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let texts = [
            ("aud", &self.cell),
            ("sub", &self.subject),
            ("scope", &self.scope),
            ("channel", &self.channel),
            ("name", &self.name),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| {
            let text = text.as_deref().filter(|text| !text.is_empty())?;
            Some((name, text.into()))
        });
        let lists = [
            ("acl", &self.acl),
            ("pulsar_produce", &self.produce),
            ("pulsar_consume", &self.consume),
            ("pulsar_read", &self.read),
        ];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let lists = lists.map(|(name, list)| (name, list.clone().into()));
        let id = self
            .id
            .as_ref()
            .map(|id| ("id", id.parse::<i64>().map_or_else(|_| id.as_str().into(), Value::from)));
        texts.chain(lists).chain(id)
    }

    /// The key; where none is given, that of the table of this name in a configuration.
    fn key(&self, table: &str) -> Result<SigningKey, CliError> {
        let mut key = match (&self.secret_file, &self.key_file) {
            (Some(_), Some(_)) => {
                return Err(CliError::usage("--secret-file and --key-file exclude each other"));
            }
            (Some(path), None) => secret_in(path)?,
            (None, Some(path)) => {
                let bytes = paths::read_small(path, "the key")?;
                SigningKey {
                    bytes,
                    source: path.display().to_string(),
                    pem: true,
                    ..Default::default()
                }
            }
            (None, None) => match &self.config {
                Some(path) => return key_of_configuration(path, table),
                None => return key_of_located(table),
            },
        };
        // The verifier takes the first algorithm of its list from any key.
        if let Some(path) = &self.config {
            key.algorithm = configured_jwt(path, table)?.and_then(|jwt| first_algorithm(&jwt));
        }
        Ok(key)
    }

    /// The table of a configuration that verifies such a token: the one whose claims are asked for,
    /// else the first. Of several, the first option in the help counts.
    fn table<'s>(&self, settings: &'s Settings) -> &'s dyn DialectTable {
        let asked = self.options().map(|(claim, _)| claim);
        // The switch asks for the dialect of these claims, and for none of them.
        let mut asked = asked.chain(self.pulsar.then_some("pulsar_produce"));
        let having = |claim| settings.tables().find(|table| table.claims().contains(&claim));
        let found = asked.find_map(having).or_else(|| settings.tables().next());
        found.expect("some dialect has a table")
    }
}

/// The key of the daemon that is meant where none is named.
fn key_of_located(table: &str) -> Result<SigningKey, CliError> {
    const INSTEAD: &str = "--config, --secret-file or --key-file";
    let located = Located::find();
    located.tell(INSTEAD);
    let key = match located.configuration() {
        Some(path) => key_of_configuration(path, table),
        None => development_secret(),
    };
    key.map_err(|error| located.about(&error, INSTEAD))
}

fn algorithm_named(name: &str) -> Result<Algorithm, CliError> {
    name.parse().map_err(|_| {
        CliError::usage(format!(
            "--algorithm {name} is unknown; it is one of HS256 HS384 HS512 RS256 RS384 RS512 \
             PS256 PS384 PS512 ES256 ES384 EdDSA"
        ))
    })
}

/// `key=json` taken apart.
fn further_claim(text: &str) -> Result<(String, Value), CliError> {
    let (name, json) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            CliError::usage("--claim takes key=json, such as --claim 'event_types=[\"chat\"]'")
        })?;
    let value = serde_json::from_str(json).map_err(|error| {
        CliError::usage(format!(
            "--claim {name}: the value is not JSON ({error}); a string needs its quotes: \
             --claim '{name}=\"…\"'"
        ))
    })?;
    Ok((name.into(), value))
}

/// Signs with the algorithm that was asked for, else the configured one, else one that suits the
/// key.
fn signed(
    key: &SigningKey,
    asked: Option<Algorithm>,
    claims: &Map<String, Value>,
) -> Result<String, CliError> {
    let candidates = match asked.or(key.algorithm) {
        Some(algorithm) => {
            let symmetric = algorithm.family() == AlgorithmFamily::Hmac;
            if symmetric == key.pem {
                let (has, wants) = if key.pem {
                    ("a private key", "a secret (--secret-file)")
                } else {
                    ("a secret", "a private key (--key-file)")
                };
                return Err(CliError::new(format!(
                    "{algorithm:?} signs with {wants}, but {} holds {has}; give the other, or \
                     --algorithm",
                    key.source
                )));
            }
            vec![algorithm]
        }
        None if key.pem => PEM_ALGORITHMS.to_vec(),
        None => vec![Algorithm::HS256],
    };
    let mint = if key.may_be_short { mint_leniently } else { mint };
    // With one candidate the key's own error says most.
    if let [only] = candidates[..] {
        return mint(only, &key.bytes, claims)
            .map_err(|error| CliError::new(format!("{}: {error}", key.source)));
    }
    let minted = candidates.iter().find_map(|&algorithm| mint(algorithm, &key.bytes, claims).ok());
    minted.ok_or_else(|| {
        let names: Vec<String> = candidates.iter().map(|name| format!("{name:?}")).collect();
        CliError::new(format!(
            "{} does not sign with {}: it must hold a private key in PEM that suits the algorithm \
             (`openssl pkey -in FILE -noout -text` tells its kind)",
            key.source,
            names.join(", ")
        ))
    })
}

fn development_secret() -> Result<SigningKey, CliError> {
    // Made by the daemon alone: a token of a secret that it does not have would be refused.
    let path = paths::state_dir().join("jwt.secret");
    if !path.try_exists().unwrap_or(true) {
        return Err(CliError::new(format!(
            "there is no development secret {} yet: `fanfare serve` creates it",
            path.display()
        )));
    }
    secret_in(&path)
}

/// The secret of a file, without the line end that editors and `echo` leave after it.
fn secret_in(path: &Path) -> Result<SigningKey, CliError> {
    let mut bytes = paths::read_small(path, "the secret")?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    secret(bytes, path.display().to_string())
}

fn secret(bytes: Vec<u8>, source: String) -> Result<SigningKey, CliError> {
    if bytes.is_empty() {
        return Err(CliError::new(format!("the secret of {source} is empty")));
    }
    // A PEM file would sign as a secret too, and no verifier would take it.
    if bytes.starts_with(b"-----BEGIN") {
        return Err(CliError::new(format!(
            "{source} holds a PEM key, not a secret; give it with --key-file"
        )));
    }
    Ok(SigningKey { bytes, source, ..Default::default() })
}

/// The key that the configuration verifies with, if one can sign with it.
fn key_of_configuration(path: &Path, table: &str) -> Result<SigningKey, CliError> {
    let source = path.display().to_string();
    let jwt = configured_jwt(path, table)?.ok_or_else(|| {
        CliError::configuration(format!(
            "{source} has no `token = {{ jwt = … }}` in [{table}]; give --secret-file or --key-file"
        ))
    })?;
    let [inline, file] =
        ["secret", "secret_file"].map(|name| jwt.get(name).and_then(toml::Value::as_str));
    let mut key = match (inline, file) {
        (Some(value), _) => secret(value.into(), source)?,
        (None, Some(file)) => {
            secret_in(Path::new(file)).map_err(|error| error.with(CliStatus::Configuration))?
        }
        (None, None) => {
            return Err(CliError::configuration(format!(
                "{source} knows only public keys, which check tokens but sign none; give --key-file"
            )));
        }
    };
    key.algorithm = first_algorithm(&jwt);
    Ok(key)
}

/// What a configuration's table, such as `personium`, has under `token.jwt`.
fn configured_jwt(path: &Path, name: &str) -> Result<Option<toml::Table>, CliError> {
    let source = path.display().to_string();
    let text = paths::configuration(path)?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|error| CliError::configuration(explain(&source, &text, &error)))?;
    let found = table.get(name).and_then(|it| it.get("token")).and_then(|it| it.get("jwt"));
    Ok(found.and_then(toml::Value::as_table).cloned())
}

fn first_algorithm(jwt: &toml::Table) -> Option<Algorithm> {
    jwt.get("algorithms")?.as_array()?.first()?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;
    use crate::service::topic::GLOBS_MAX;

    fn parsed(arguments: &[&str]) -> TokenCommand {
        TokenCommand::from_args(&["token"], arguments).unwrap()
    }

    fn table_of(token: &TokenCommand) -> &'static str {
        token.table(&Settings::default()).name()
    }

    fn claims_of(token: &TokenCommand, now_s: u64) -> Result<Map<String, Value>, CliError> {
        token.claims(token.table(&Settings::default()), now_s)
    }

    fn key_of(token: &TokenCommand) -> Result<SigningKey, CliError> {
        token.key(table_of(token))
    }

    fn decoded(token: &str, secret: &[u8]) -> (Algorithm, Map<String, Value>) {
        let algorithm = jsonwebtoken::decode_header(token).unwrap().alg;
        let mut validation = jsonwebtoken::Validation::new(algorithm);
        validation.validate_aud = false;
        let key = jsonwebtoken::DecodingKey::from_secret(secret);
        (algorithm, jsonwebtoken::decode(token, &key, &validation).unwrap().claims)
    }

    #[test]
    fn claims_are_what_the_options_say() {
        let token = parsed(&["--cell", "john.doe", "--subject", "me", "--expires-in-s", "60"]);
        let claims = Value::Object(claims_of(&token, 1000).unwrap());
        let expected = serde_json::json!(
            {"aud": "john.doe", "sub": "me", "scope": "event-read", "iat": 1000, "exp": 1060});
        assert_eq!(claims, expected);
        let token = parsed(&["--scope", "", "--claim", "exp=5", "--claim", "a={\"b\":[1]}"]);
        let claims = Value::Object(claims_of(&token, 1000).unwrap());
        assert_eq!(claims, serde_json::json!({"iat": 1000, "exp": 5, "a": {"b": [1]}}));
        let token = parsed(&["--acl", "websocketd", "--acl", "events.#", "--subject", "me"]);
        let claims = Value::Object(claims_of(&token, 1000).unwrap());
        let expected = serde_json::json!({"acl": ["websocketd", "events.#"], "sub": "me", "iat": 1000, "exp": 4600});
        assert_eq!(claims, expected);
    }

    #[test]
    fn a_channels_token_has_its_user_and_no_scope() {
        let token =
            parsed(&["--channel", "chat:1", "--id", "1", "--name", "Ann", "--expires-in-s", "60"]);
        let claims = Value::Object(claims_of(&token, 1000).unwrap());
        let expected = serde_json::json!({"channel": "chat:1", "id": 1, "name": "Ann", "iat": 1000, "exp": 1060});
        assert_eq!((claims, table_of(&token)), (expected, "channel"));
        let token = parsed(&["--channel", "chat:1", "--id", "ann"]);
        assert_eq!(claims_of(&token, 1000).unwrap()["id"], "ann");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "short\n").unwrap();
        let token = |arguments: &[&str]| {
            parsed(&[&["--secret-file", path.to_str().unwrap()], arguments].concat())
        };
        assert!(token(&["--channel", "chat:1"]).run().is_ok());
        assert!(token(&["--cell", "demo"]).run().unwrap_err().to_string().contains("at least 32"));
    }

    #[test]
    fn a_token_for_pulsar_has_no_claim_of_its_own() {
        let token = parsed(&["--pulsar", "--subject", "ann"]);
        let claims = Value::Object(claims_of(&token, 1000).unwrap());
        assert_eq!(claims, serde_json::json!({"sub": "ann", "iat": 1000, "exp": 4600}));
        assert_eq!(table_of(&token), "pulsar");
    }

    #[test]
    fn a_token_for_pulsar_may_name_what_it_is_for() {
        let token = parsed(&[
            "--produce",
            "t/n/*",
            "--consume",
            "t/n/a",
            "--consume",
            "t/n/b",
            "--read",
            "p/c/n/x",
        ]);
        let mut claims = claims_of(&token, 1000).unwrap();
        assert_eq!(claims.remove("pulsar_produce"), Some(serde_json::json!(["t/n/*"])));
        assert_eq!(claims.remove("pulsar_consume"), Some(serde_json::json!(["t/n/a", "t/n/b"])));
        assert_eq!(claims.remove("pulsar_read"), Some(serde_json::json!(["p/c/n/x"])));
        assert_eq!(Value::Object(claims), serde_json::json!({"iat": 1000, "exp": 4600}));
        assert_eq!(table_of(&token), "pulsar");
        for bad in ["t/n", "*", "persistent://t/n/x", "t//x", ""] {
            let error = parsed(&["--read", bad]).run().unwrap_err().to_string();
            assert!(error.contains("TENANT/NAMESPACE/TOPIC"), "{error}");
        }
        let many = ["--read", "t/n/x"].repeat(GLOBS_MAX + 1);
        assert!(parsed(&many).run().unwrap_err().to_string().contains("name a namespace"));
    }

    #[test]
    fn of_options_for_several_dialects_the_first_names_the_verifier() {
        for (arguments, table) in [
            (&["--pulsar", "--acl", "#", "--channel", "c"][..], "channel"),
            (&["--pulsar", "--produce", "t/n/x", "--acl", "#"], "wazo"),
            (&["--pulsar", "--cell", "demo"], "pulsar"),
            (&["--cell", "demo"], "personium"),
        ] {
            assert_eq!(table_of(&parsed(arguments)), table, "{arguments:?}");
        }
        let odd = parsed(&["--channel", "c", "--read", "*"]).run().unwrap_err().to_string();
        assert!(odd.contains("TENANT/NAMESPACE/TOPIC"), "{odd}");
    }

    #[test]
    fn a_claim_that_is_not_json_is_refused_with_advice() {
        assert!(
            further_claim("name=Ann").unwrap_err().to_string().contains("--claim 'name=\"…\"'")
        );
        assert!(further_claim("name").is_err());
        assert!(further_claim("=1").is_err());
        assert!(claims_of(&parsed(&["--expires-in-s", "0"]), 1).is_err());
        assert!(claims_of(&parsed(&["--expires-in-s", "18446744073709551615"]), 1).is_err());
    }

    #[test]
    fn a_secret_file_signs_without_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "a secret of thirty-two bytes or more\r\n").unwrap();
        let token = parsed(&["--secret-file", path.to_str().unwrap()]);
        let claims = claims_of(&token, 4_000_000_000).unwrap();
        let minted = signed(&key_of(&token).unwrap(), None, &claims).unwrap();
        let (algorithm, read) = decoded(&minted, b"a secret of thirty-two bytes or more");
        assert_eq!((algorithm, read), (Algorithm::HS256, claims));
        let wrong = signed(&key_of(&token).unwrap(), Some(Algorithm::RS256), &Map::new());
        assert!(wrong.unwrap_err().to_string().contains("--key-file"));
    }

    #[test]
    fn a_configuration_gives_secret_and_algorithm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fanfare.toml");
        let write = |text: &str| fs::write(&path, text).unwrap();
        let token = parsed(&["--config", path.to_str().unwrap()]);
        write("[personium]\ntoken = { jwt = { algorithms = [\"HS512\"], secret = \"abc\" } }\n");
        let key = key_of(&token).unwrap();
        assert_eq!((key.bytes, key.algorithm), (b"abc".to_vec(), Some(Algorithm::HS512)));
        write("[wazo.token.jwt]\nsecret = \"def\"\n");
        let other = parsed(&["--config", path.to_str().unwrap(), "--acl", "#"]);
        assert_eq!(key_of(&other).unwrap().bytes, b"def");
        write("[personium.token.jwt]\npublic_key_file = \"x\"\n");
        assert!(key_of(&token).err().unwrap().to_string().contains("give --key-file"));
        write("[personium]\nanonymous = true\n");
        assert!(key_of(&token).err().unwrap().to_string().contains("no `token"));
        write("[personium]\ntoken = { jwt = { secret = \"abc\n");
        assert!(!key_of(&token).err().unwrap().to_string().contains("abc"));
    }

    #[test]
    fn a_key_file_is_told_by_its_kind() {
        let kinds = [
            (vec!["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], Algorithm::RS256),
            (vec!["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], Algorithm::ES256),
            (vec!["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], Algorithm::ES384),
            (vec!["-algorithm", "ED25519"], Algorithm::EdDSA),
        ];
        for (arguments, algorithm) in kinds {
            let Ok(output) = Command::new("openssl").arg("genpkey").args(arguments).output() else {
                eprintln!("skipped: openssl is not installed");
                return;
            };
            let source = "key.pem".into();
            let key = SigningKey { bytes: output.stdout, source, pem: true, ..Default::default() };
            let token = signed(&key, None, &Map::new()).unwrap();
            assert_eq!(jsonwebtoken::decode_header(&token).unwrap().alg, algorithm);
            let error = signed(&key, Some(Algorithm::HS256), &Map::new()).unwrap_err().to_string();
            assert!(error.contains("--secret-file"), "{error}");
        }
    }
}
