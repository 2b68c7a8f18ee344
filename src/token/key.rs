//! Keys: a secret or a PEM file is read once into a key that verifies or signs, or is refused with
//! what to do about it.
//!
//! A key is tied to its algorithms when it is read, so a token cannot choose: a secret is only ever
//! an HMAC key and a public key never is (RFC 8725 section 3.1). A bad key is found here and not by
//! the first token.

use jsonwebtoken::{AlgorithmFamily, DecodingKey, EncodingKey};

use super::Algorithm;
use super::crypto::{self, TokenSigner};
use super::rigour::Rigour;

/// Shortest and longest RSA modulus, in bits. The shortest is RFC 7518 section 3.3; the longest
/// bounds the work of a signature, which grows with the square of it.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// One key that checks signatures.
pub(super) struct JwtKey {
    name: KeyName,
    /// The configured algorithms this key may be used with; never empty.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Which `kid` of a token picks a key.
pub(super) enum KeyName {
    /// The only key there is: a token may call it what it likes.
    Sole,
    /// A key of a set that has no name: only tokens without a `kid` try it.
    Unnamed,
    /// A key of a set that has a name: tokens with it try it, and tokens without a `kid`.
    Named(String),
}

impl JwtKey {
    /// A secret, for the HMAC algorithms.
    pub(super) fn from_secret(
        material: &[u8],
        algorithms: &[Algorithm],
        rigour: Rigour,
    ) -> Result<Self, KeyError> {
        let secret = secret(material, algorithms, rigour)?;
        Self::new(KeyName::Sole, algorithms.to_vec(), DecodingKey::from_secret(secret))
    }

    /// One public key in PEM, for the RSA, ECDSA and EdDSA algorithms.
    pub(super) fn from_public_pem(
        material: &[u8],
        algorithms: &[Algorithm],
    ) -> Result<Self, KeyError> {
        // PEM as an HMAC secret is the classic forgery: everybody has the public key.
        if let Some(&algorithm) = algorithms.iter().find(|a| a.family() == AlgorithmFamily::Hmac) {
            return Err(KeyError::NeedsSecret { algorithm });
        }

        let labels = pem_labels(material)?;
        for label in &labels {
            match *label {
                // SubjectPublicKeyInfo of any kind, and PKCS #1 of RSA.
                "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
                "CERTIFICATE" => return Err(KeyError::Certificate),
                label if label.ends_with("PRIVATE KEY") => return Err(KeyError::PrivateKey),
                _ => return Err(KeyError::Unreadable),
            }
        }
        if labels.len() > 1 {
            return Err(KeyError::SeveralKeys);
        }

        // The library has no reader for "whatever it is"; each fails on the others' object
        // identifiers.
        let key = DecodingKey::from_rsa_pem(material)
            .or_else(|_| DecodingKey::from_ec_pem(material))
            .or_else(|_| DecodingKey::from_ed_pem(material))
            .map_err(|_| KeyError::Unreadable)?;
        Self::new(KeyName::Sole, algorithms.to_vec(), key)
    }

    /// Any key, if it works with each of the algorithms.
    pub(super) fn new(
        name: KeyName,
        algorithms: Vec<Algorithm>,
        key: DecodingKey,
    ) -> Result<Self, KeyError> {
        for &algorithm in &algorithms {
            probe(algorithm, &key)?;
        }
        Ok(Self { name, algorithms, key })
    }

    /// Whether this key may check a token with this `alg` and `kid`.
    pub(super) fn fits(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        let named = match (&self.name, kid) {
            (KeyName::Sole, _) | (_, None) => true,
            (KeyName::Unnamed, Some(_)) => false,
            (KeyName::Named(name), Some(kid)) => name == kid,
        };
        named && self.algorithms.contains(&algorithm)
    }

    /// Whether this key made the signature. Expects an algorithm that fits.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &str, signature: &[u8]) -> bool {
        crypto::verifies(algorithm, &self.key, message.as_bytes(), signature)
    }

    pub(super) fn works_with(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

/// The secret without the line ending that an editor or `echo` adds, if each of the algorithms is
/// an HMAC one for which it is long enough; a lenient verifier accepts any length but none.
fn secret<'a>(
    material: &'a [u8],
    algorithms: &[Algorithm],
    rigour: Rigour,
) -> Result<&'a [u8], KeyError> {
    let secret = material.strip_suffix(b"\n").unwrap_or(material);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);

    for &algorithm in algorithms {
        if algorithm.family() != AlgorithmFamily::Hmac {
            return Err(KeyError::NeedsPublicKey { algorithm });
        }
    }
    // A key file given as secret_file: its text is public or private key material, not a secret.
    if secret.starts_with(b"-----BEGIN ") {
        return Err(KeyError::SecretIsPem);
    }
    // An empty secret is refused even where others' short ones are tolerated: anybody can sign with
    // it.
    if rigour == Rigour::Strict || secret.is_empty() {
        algorithms
            .iter()
            .try_for_each(|&algorithm| check_secret_length(secret.len(), algorithm))?;
    }
    Ok(secret)
}

/// "A key of the same size as the hash output or larger MUST be used" (RFC 7518 section 3.2).
pub(super) fn check_secret_length(bytes: usize, algorithm: Algorithm) -> Result<(), KeyError> {
    let bytes_min = match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        _ => 64,
    };
    if bytes < bytes_min {
        Err(KeyError::ShortSecret { bytes, algorithm, bytes_min })
    } else {
        Ok(())
    }
}

/// The key that signs: a secret for the HMAC algorithms, else a private key in PEM.
pub(super) fn signing_key(
    algorithm: Algorithm,
    material: &[u8],
    rigour: Rigour,
) -> Result<TokenSigner, KeyError> {
    let unfit = KeyError::Unfit { algorithm, needs: needs(algorithm) };
    if algorithm.family() == AlgorithmFamily::Hmac {
        let key = EncodingKey::from_secret(secret(material, &[algorithm], rigour)?);
        return TokenSigner::new(algorithm, &key).ok_or(unfit);
    }

    let labels = pem_labels(material)?;
    // PKCS #8 says so in its label, the traditional form in a header inside of the block.
    let encrypted_within = material.windows(9).any(|window| window == b"ENCRYPTED");
    for label in &labels {
        match *label {
            _ if encrypted_within => return Err(KeyError::Encrypted),
            "PRIVATE KEY" | "RSA PRIVATE KEY" => {}
            "EC PRIVATE KEY" | "EC PARAMETERS" => return Err(KeyError::Sec1),
            "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE" => return Err(KeyError::PublicKey),
            _ => return Err(KeyError::Unreadable),
        }
    }

    if labels.len() > 1 {
        return Err(KeyError::SeveralKeys);
    }
    let key = EncodingKey::from_rsa_pem(material)
        .or_else(|_| EncodingKey::from_ec_pem(material))
        .or_else(|_| EncodingKey::from_ed_pem(material))
        .map_err(|_| KeyError::Unreadable)?;

    if key.family() != algorithm.family() {
        return Err(unfit);
    }

    if key.family() == AlgorithmFamily::Rsa {
        // The verifier's bounds first: ring signs with fewer keys than it verifies.
        check_rsa(crypto::rsa_components_of_private(key.as_bytes()))?;
        return TokenSigner::new(algorithm, &key).ok_or(KeyError::RsaSigning);
    }
    TokenSigner::new(algorithm, &key).ok_or(unfit)
}

/// Finds out now whether the key can verify with the algorithm at all.
fn probe(algorithm: Algorithm, key: &DecodingKey) -> Result<(), KeyError> {
    let unfit = KeyError::Unfit { algorithm, needs: needs(algorithm) };
    if key.family() != algorithm.family() {
        return Err(unfit);
    }

    let bytes = key.try_get_as_bytes().unwrap_or_default();
    let fits = match algorithm {
        // Any bytes are a secret; its length has been checked.
        _ if key.family() == AlgorithmFamily::Hmac => true,
        _ if key.family() == AlgorithmFamily::Rsa => {
            return check_rsa(crypto::rsa_components(key));
        }
        // ring has no check of a point by itself: that it is on the curve the first token shows.
        Algorithm::EdDSA => bytes.len() == 32,
        // SEC 1 section 2.3.3; ring reads neither.
        _ if matches!(bytes.first(), Some(2 | 3)) => return Err(KeyError::CompressedPoint),
        _ => crypto::is_point(algorithm, bytes),
    };
    if fits { Ok(()) } else { Err(unfit) }
}

/// Checks modulus and exponent: the shortest modulus of the RFC, and what `ring` wants of each
/// signature's key.
fn check_rsa(components: Option<(Vec<u8>, Vec<u8>)>) -> Result<(), KeyError> {
    let (modulus, exponent) = components.ok_or(KeyError::RsaSize)?;
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let good = RSA_BITS.contains(&bits(&modulus))
        && odd(&modulus)
        && (2..=33).contains(&bits(&exponent))
        && odd(&exponent);
    if good { Ok(()) } else { Err(KeyError::RsaSize) }
}

/// Length in bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    match number.iter().position(|byte| *byte != 0) {
        Some(first) => (number.len() - first) * 8 - number[first].leading_zeros() as usize,
        None => 0,
    }
}

/// The labels of the PEM blocks (RFC 7468 section 2) in the file; at least one.
fn pem_labels(material: &[u8]) -> Result<Vec<&str>, KeyError> {
    let text = std::str::from_utf8(material).map_err(|_| KeyError::NoPem)?;
    let labels: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .collect();
    if labels.is_empty() { Err(KeyError::NoPem) } else { Ok(labels) }
}

fn needs(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => "a secret",
        Algorithm::ES256 => "an EC key on the curve P-256",
        Algorithm::ES384 => "an EC key on the curve P-384",
        Algorithm::EdDSA => "an Ed25519 key",
        _ => "an RSA key",
    }
}

/// What is wrong with a key, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// A secret cannot serve this algorithm.
    #[error("algorithm {algorithm:?} needs public_key_file or jwks_file")]
    NeedsPublicKey {
        /// The configured algorithm.
        algorithm: Algorithm,
    },
    /// A public key cannot serve this algorithm.
    #[error("algorithm {algorithm:?} needs secret, secret_file or jwks_file")]
    NeedsSecret {
        /// The configured algorithm.
        algorithm: Algorithm,
    },
    /// The secret is shorter than the hash.
    #[error(
        "the secret is {bytes} bytes; {algorithm:?} needs at least {bytes_min} (RFC 7518 section \
         3.2), as `openssl rand -base64 {bytes_min}` makes"
    )]
    ShortSecret {
        /// Length of the secret.
        bytes: usize,
        /// The configured algorithm.
        algorithm: Algorithm,
        /// Length of the algorithm's hash.
        bytes_min: usize,
    },
    /// The secret is a key file.
    #[error("the secret is a PEM file; a PEM key goes with an RS, PS, ES or EdDSA algorithm")]
    SecretIsPem,
    /// There is no PEM block.
    #[error("the key file is not PEM; it starts with a line such as -----BEGIN PUBLIC KEY-----")]
    NoPem,
    /// There is more than one PEM block.
    #[error("the key file has several PEM blocks; keep one, or put several keys in a jwks_file")]
    SeveralKeys,
    /// A private key where a public one belongs.
    #[error(
        "the key file is a private key, which only the issuer should have; use the public one, \
         as `openssl pkey -in private.pem -pubout` prints"
    )]
    PrivateKey,
    /// A public key where a private one belongs.
    #[error("the key file is a public key; signing needs the private one")]
    PublicKey,
    /// A certificate where a key belongs.
    #[error(
        "the key file is a certificate; use its key, as `openssl x509 -in cert.pem -noout \
         -pubkey` prints"
    )]
    Certificate,
    /// The private key is encrypted.
    #[error("the private key is encrypted; decrypt it, as `openssl pkey -in private.pem` does")]
    Encrypted,
    /// The private key is in the older form for EC keys.
    #[error(
        "the private key is not PKCS #8; convert it, as `openssl pkcs8 -topk8 -nocrypt -in \
         private.pem` does"
    )]
    Sec1,
    /// The block has an unknown label or content.
    #[error("the key file cannot be read as an RSA, EC or Ed25519 key")]
    Unreadable,
    /// The key is of another kind than the algorithm.
    #[error("algorithm {algorithm:?} needs {needs}, and this key is another kind")]
    Unfit {
        /// The configured algorithm.
        algorithm: Algorithm,
        /// The kind of key it needs.
        needs: &'static str,
    },
    /// The EC key's point is in the form that has one coordinate.
    #[error(
        "the EC key has a compressed point; write it with both coordinates, as \
         `openssl ec -pubin -in public.pem -conv_form uncompressed` does"
    )]
    CompressedPoint,
    /// The RSA key verifies, but cannot sign here.
    #[error(
        "the RSA key cannot sign; signing needs 2048, 3072 or 4096 bits and an exponent of 65537 or \
         more, as `openssl genrsa 2048` makes"
    )]
    RsaSigning,
    /// The RSA key is too short or too long, or not an RSA key at all.
    #[error(
        "the RSA key cannot be used; it needs a modulus of {} (RFC 7518 section 3.3) to {} bits \
         and an odd exponent below 2^33",
        RSA_BITS.start(),
        RSA_BITS.end()
    )]
    RsaSize,
}
