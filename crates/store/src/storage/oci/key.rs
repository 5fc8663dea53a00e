//! RSA keys, and signatures of requests with them.
//!
//! <https://docs.oracle.com/en-us/iaas/Content/API/Concepts/signingrequests.htm>

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt;

/// A private key with the name that the service knows it by. Neither is printed.
pub(super) struct SigningKey {
    /// `tenancy/user/fingerprint`, or a token.
    id: String,
    pair: KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SigningKey {
    /// # Errors
    /// What is wrong with the PEM text, without any of it.
    pub(super) fn from_pem(id: String, pem: &str) -> Result<Self, String> {
        let unusable = "is no RSA key of at least 2048 bits";
        if pem.contains("ENCRYPTED") {
            return Err("has a passphrase: `openssl pkey -in KEY -out KEY.plain` makes one without".to_owned());
        }
        let pair = if let Some(der) = block(pem, "RSA PRIVATE KEY") {
            KeyPair::from_der(&der)
        } else if let Some(der) = block(pem, "PRIVATE KEY") {
            KeyPair::from_pkcs8(&der)
        } else {
            return Err("is no PEM text of a private key".to_owned());
        };
        pair.map(|pair| Self { id, pair }).map_err(|_| unusable.to_owned())
    }

    /// A new key that nobody knows yet.
    pub(super) fn generate() -> Result<KeyPair, String> {
        KeyPair::generate(KeySize::Rsa2048).map_err(|_| "no RSA key could be made".to_owned())
    }

    pub(super) fn of(id: String, pair: KeyPair) -> Self {
        Self { id, pair }
    }

    /// The value of the header `Authorization` for these headers, in their order, by draft-cavage-http-signatures-08.
    pub(super) fn authorization(&self, headers: &[(&str, String)]) -> Result<String, String> {
        let text: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.join("\n").as_bytes(), &mut signature)
            .map_err(|_| "the request could not be signed".to_owned())?;
        Ok(format!(
            "Signature algorithm=\"rsa-sha256\",headers=\"{}\",keyId=\"{}\",signature=\"{}\",version=\"1\"",
            names.join(" "),
            self.id,
            BASE64_STANDARD.encode(signature)
        ))
    }
}

/// The public half of a key, as a certificate holds it, in base64.
pub(super) fn public_half(pair: &KeyPair) -> Result<String, String> {
    let der = pair.public_key().as_der().map_err(|_| "the public key could not be written".to_owned())?;
    Ok(BASE64_STANDARD.encode(der.as_ref()))
}

/// The bytes of the first block of a kind in a PEM text.
pub(super) fn block(pem: &str, kind: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(block_text(pem, kind)?).ok()
}

/// The base64 text of a block, without line breaks.
pub(super) fn block_text(pem: &str, kind: &str) -> Option<String> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {kind}-----"))?;
    let (text, _) = rest.split_once(&format!("-----END {kind}-----"))?;
    Some(text.chars().filter(|c| !c.is_whitespace()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_used_are_refused_without_repeating_them() {
        for (pem, wanted) in [
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2\n-----END ENCRYPTED PRIVATE KEY-----", "openssl"),
            ("-----BEGIN PUBLIC KEY-----\nhunter2\n-----END PUBLIC KEY-----", "no PEM text of a private key"),
            ("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----", "no RSA key"),
            ("hunter2", "no PEM text"),
        ] {
            let error = SigningKey::from_pem("id".to_owned(), pem).unwrap_err();
            assert!(error.contains(wanted) && !error.contains("hunter2") && !error.contains("aHVu"), "{error}");
        }
    }
}
