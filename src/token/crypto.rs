//! Signatures of tokens (RFC 7518 section 3, RFC 8037 section 3.1), made and checked by `ring`,
//! which TLS uses too.
//!
//! `jsonwebtoken` reads the keys; its own choices of cryptography would bring a second
//! implementation of every algorithm, among them one of RSA whose time depends on the private key
//! (RUSTSEC-2023-0071).

use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::agreement::{self, EphemeralPrivateKey};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    self as ring_signature, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding,
    RsaKeyPair, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};

/// How an algorithm is checked.
enum SignatureCheck {
    Hmac(hmac::Algorithm),
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

fn check(algorithm: Algorithm) -> Option<SignatureCheck> {
    Some(match algorithm {
        Algorithm::HS256 => SignatureCheck::Hmac(hmac::HMAC_SHA256),
        Algorithm::HS384 => SignatureCheck::Hmac(hmac::HMAC_SHA384),
        Algorithm::HS512 => SignatureCheck::Hmac(hmac::HMAC_SHA512),
        Algorithm::RS256 => SignatureCheck::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => SignatureCheck::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => SignatureCheck::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => SignatureCheck::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => SignatureCheck::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => SignatureCheck::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => SignatureCheck::Other(&ring_signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => SignatureCheck::Other(&ring_signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => SignatureCheck::Other(&ring_signature::ED25519),
        _ => return None,
    })
}

/// Whether the key, which belongs to the algorithm's family, made this signature of the message.
pub(super) fn verifies(
    algorithm: Algorithm,
    key: &DecodingKey,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Some(check) = check(algorithm) else { return false };
    let verified = match (check, key.kind()) {
        (SignatureCheck::Hmac(hash), DecodingKeyKind::SecretOrDer(secret)) => {
            hmac::verify(&hmac::Key::new(hash, secret), message, signature)
        }
        (SignatureCheck::Rsa(how), DecodingKeyKind::SecretOrDer(der)) => {
            UnparsedPublicKey::new(how, der).verify(message, signature)
        }
        (SignatureCheck::Rsa(how), DecodingKeyKind::RsaModulusExponent { n, e }) => {
            // ring rejects leading zeros, which JWKs may have.
            let (n, e) = (without_zeros(n), without_zeros(e));
            RsaPublicKeyComponents { n, e }.verify(how, message, signature)
        }
        (SignatureCheck::Other(how), DecodingKeyKind::SecretOrDer(point)) => {
            UnparsedPublicKey::new(how, point).verify(message, signature)
        }
        _ => return false,
    };
    verified.is_ok()
}

/// Modulus and exponent of an RSA key, big-endian without leading zeros; `None` for other keys.
pub(super) fn rsa_components(key: &DecodingKey) -> Option<(Vec<u8>, Vec<u8>)> {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            Some((without_zeros(n).to_vec(), without_zeros(e).to_vec()))
        }
        DecodingKeyKind::SecretOrDer(der) => {
            // RSAPublicKey of RFC 8017 appendix A.1.1: what `jsonwebtoken` extracts from PEM.
            let read = SliceReader::new(der).ok()?.sequence(|numbers| {
                let (n, e) = (UintRef::decode(numbers)?, UintRef::decode(numbers)?);
                Ok((n.as_bytes().to_vec(), e.as_bytes().to_vec()))
            });
            read.ok()
        }
    }
}

/// Modulus and exponent of a private RSA key in DER, as [`rsa_components`]; `None` for other keys.
pub(super) fn rsa_components_of_private(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    // RSAPrivateKey of RFC 8017 appendix A.1.2: the version, the two, and six more.
    let read = SliceReader::new(der).ok()?.sequence(|numbers| {
        UintRef::decode(numbers)?;
        let (n, e) = (UintRef::decode(numbers)?, UintRef::decode(numbers)?);
        let read = (n.as_bytes().to_vec(), e.as_bytes().to_vec());
        numbers.read_slice(numbers.remaining_len())?;
        Ok(read)
    });
    read.ok()
}

/// Whether these bytes are an uncompressed point (SEC 1 section 2.3.3) on the curve of an ECDSA
/// algorithm.
pub(super) fn is_point(algorithm: Algorithm, bytes: &[u8]) -> bool {
    let curve = match algorithm {
        Algorithm::ES256 => &agreement::ECDH_P256,
        Algorithm::ES384 => &agreement::ECDH_P384,
        _ => return false,
    };
    // ring validates a public key for signatures only together with a signature, and one for key
    // agreement at once, so agreement with a throw-away key tells.
    EphemeralPrivateKey::generate(curve, &SystemRandom::new()).is_ok_and(|own| {
        agreement::agree_ephemeral(own, &agreement::UnparsedPublicKey::new(curve, bytes), |_| ())
            .is_ok()
    })
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[first..]
}

/// A key that signs with an algorithm.
pub(super) enum TokenSigner {
    Hmac(hmac::Key),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl TokenSigner {
    /// The key, which belongs to the algorithm's family, ready to sign; `None` when ring rejects
    /// it.
    pub(super) fn new(algorithm: Algorithm, key: &EncodingKey) -> Option<Self> {
        let key = key.as_bytes();
        match algorithm {
            Algorithm::HS256 => Some(Self::Hmac(hmac::Key::new(hmac::HMAC_SHA256, key))),
            Algorithm::HS384 => Some(Self::Hmac(hmac::Key::new(hmac::HMAC_SHA384, key))),
            Algorithm::HS512 => Some(Self::Hmac(hmac::Key::new(hmac::HMAC_SHA512, key))),
            Algorithm::RS256 => Self::rsa(key, &ring_signature::RSA_PKCS1_SHA256),
            Algorithm::RS384 => Self::rsa(key, &ring_signature::RSA_PKCS1_SHA384),
            Algorithm::RS512 => Self::rsa(key, &ring_signature::RSA_PKCS1_SHA512),
            Algorithm::PS256 => Self::rsa(key, &ring_signature::RSA_PSS_SHA256),
            Algorithm::PS384 => Self::rsa(key, &ring_signature::RSA_PSS_SHA384),
            Algorithm::PS512 => Self::rsa(key, &ring_signature::RSA_PSS_SHA512),
            Algorithm::ES256 => Self::ecdsa(key, &ring_signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => Self::ecdsa(key, &ring_signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            // OpenSSL writes PKCS #8 without the public key, which ring's checked reader insists
            // on.
            Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).map(Self::Ed).ok(),
            _ => None,
        }
    }

    fn rsa(der: &[u8], encoding: &'static dyn RsaEncoding) -> Option<Self> {
        Some(Self::Rsa(Box::new(RsaKeyPair::from_der(der).ok()?), encoding))
    }

    fn ecdsa(pkcs8: &[u8], curve: &'static EcdsaSigningAlgorithm) -> Option<Self> {
        EcdsaKeyPair::from_pkcs8(curve, pkcs8, &SystemRandom::new()).map(Self::Ecdsa).ok()
    }

    /// The signature of a message; `None` when the system has no randomness.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        // PSS needs it for its salt and ECDSA for its nonce; HMAC and Ed25519 need none.
        let random = &SystemRandom::new();
        match self {
            Self::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Self::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*encoding, random, message, &mut signature).ok()?;
                Some(signature)
            }
            Self::Ecdsa(key) => Some(key.sign(random, message).ok()?.as_ref().to_vec()),
            Self::Ed(key) => Some(key.sign(message).as_ref().to_vec()),
        }
    }
}
