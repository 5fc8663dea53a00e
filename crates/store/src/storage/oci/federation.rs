//! The identity of the instance that this runs on.
//!
//! The metadata service gives the instance a certificate. With it a token is asked for, bound to a key that was made for
//! this; the key then signs requests in the token's name until the token expires.
//! <https://docs.oracle.com/en-us/iaas/Content/Identity/Tasks/callingservicesfrominstances.htm>

use super::identity::Setup;
use super::key::{self, SigningKey};
use super::requests::{Request, generic, send_signed};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use http::Method;
use object_store::Result;
use serde::Deserialize;
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell};

/// The metadata service of every instance.
const METADATA: &str = "http://169.254.169.254/opc/v2";

/// A token is not used in the last minutes of its life.
const MARGIN_MS: i64 = 5 * 60 * 1_000;

/// Asks for tokens.
pub(super) struct Federation {
    setup: Setup,
    metadata: String,
    region: OnceCell<RegionInfo>,
    current: Mutex<Option<Session>>,
}

struct Session {
    key: Arc<SigningKey>,
    expires_ms: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegionInfo {
    realm_domain_component: String,
    region_identifier: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
struct Claims {
    /// Seconds since 1970.
    exp: i64,
}

impl Federation {
    pub(super) fn new(setup: Setup, metadata: Option<String>) -> Self {
        let metadata = metadata.unwrap_or_else(|| METADATA.to_owned());
        Self { setup, metadata, region: OnceCell::new(), current: Mutex::new(None) }
    }

    /// A key whose token has some minutes left.
    pub(super) async fn key(&self) -> Result<Arc<SigningKey>> {
        let mut current = self.current.lock().await;
        match &*current {
            Some(session) if self.setup.clock.now_ms() + MARGIN_MS < session.expires_ms => Ok(session.key.clone()),
            _ => Ok(current.insert(self.session().await?).key.clone()),
        }
    }

    /// Whether there was a token to forget.
    pub(super) async fn forget(&self) -> bool {
        self.current.lock().await.take().is_some()
    }

    /// The endpoint of a service in the instance's region.
    pub(super) async fn endpoint(&self, service: &str) -> Result<String> {
        let region = self.region.get_or_try_init(|| async {
            let text = self.metadata("instance/regionInfo").await?;
            serde_json::from_str::<RegionInfo>(&text).map_err(generic)
        });
        let RegionInfo { realm_domain_component, region_identifier } = region.await?;
        Ok(format!("https://{service}.{region_identifier}.{realm_domain_component}"))
    }

    async fn metadata(&self, path: &str) -> Result<String> {
        let url = format!("{}/{path}", self.metadata);
        let request = Request::new(Method::GET, url).header("authorization", "Bearer Oracle");
        self.setup.metadata.text(request).await
    }

    async fn session(&self) -> Result<Session> {
        let certificate = self.metadata("identity/cert.pem").await?;
        let private = self.metadata("identity/key.pem").await?;
        let intermediate = self.metadata("identity/intermediate.pem").await?;
        let kind = "CERTIFICATE";
        let (Some(der), Some(leaf)) = (key::block(&certificate, kind), key::block_text(&certificate, kind)) else {
            return Err(generic("the instance's certificate is no PEM text"));
        };
        let tenancy = tenancy(&der).ok_or_else(|| generic("the instance's certificate names no tenancy"))?;
        let print = digest(&SHA1_FOR_LEGACY_USE_ONLY, &der);
        let print: Vec<_> = print.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let id = format!("{tenancy}/fed-x509/{}", print.join(":"));
        let signer = SigningKey::from_pem(id, &private)
            .map_err(|problem| generic(format!("the key of the instance's certificate {problem}")))?;

        let session = SigningKey::generate().map_err(generic)?;
        let mut body = serde_json::json!({
            "certificate": leaf,
            "publicKey": key::public_half(&session).map_err(generic)?,
        });
        if let Some(text) = key::block_text(&intermediate, kind) {
            body["intermediateCertificates"] = serde_json::json!([text]);
        }
        let url = match &self.setup.federation {
            Some(endpoint) => format!("{endpoint}/v1/x509"),
            None => format!("{}/v1/x509", self.endpoint("auth").await?),
        };
        let request = Request::new(Method::POST, url).json(&body);
        let text = send_signed(&self.setup.http, &signer, self.setup.clock.as_ref(), request, false).await?;
        let Token { token } = serde_json::from_slice(&text).map_err(generic)?;
        let expires_ms = expiry_ms(&token).ok_or_else(|| generic("the sign-in service's token has no expiry"))?;
        Ok(Session { key: Arc::new(SigningKey::of(format!("ST${token}"), session)), expires_ms })
    }
}

/// When a JSON web token expires.
fn expiry_ms(token: &str) -> Option<i64> {
    let claims = token.split('.').nth(1)?.trim_end_matches('=');
    let json = BASE64_URL_SAFE_NO_PAD.decode(claims).or_else(|_| BASE64_STANDARD_NO_PAD.decode(claims)).ok()?;
    serde_json::from_slice::<Claims>(&json).ok()?.exp.checked_mul(1_000)
}

/// The tenancy that a certificate names in its subject: a short string of DER that begins with one of two words. The byte
/// before it is its length.
fn tenancy(certificate: &[u8]) -> Option<String> {
    for word in ["opc-tenant:", "opc-identity:"] {
        let found = certificate.windows(word.len()).position(|window| window == word.as_bytes());
        let Some(length_at) = found.and_then(|at| at.checked_sub(1)) else { continue };
        let length = usize::from(*certificate.get(length_at)?);
        let text = certificate.get(length_at + 1..length_at + 1 + length)?;
        return std::str::from_utf8(text).ok()?.strip_prefix(word).map(str::to_owned);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenancy_is_read_by_its_length() {
        let name = "opc-tenant:ocid1.tenancy.oc1..x";
        let mut der = vec![0x31, 0x0c, name.len() as u8];
        der.extend(name.as_bytes());
        der.extend(b"1\x30more");
        assert_eq!(tenancy(&der).as_deref(), Some("ocid1.tenancy.oc1..x"));
        assert_eq!(tenancy(b"nothing"), None);
        assert_eq!(tenancy(b"\xffopc-tenant:cut"), None);
    }

    #[test]
    fn the_expiry_of_a_token_is_in_its_second_part() {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000,"iat":1}"#);
        assert_eq!(expiry_ms(&format!("a.{claims}.c")), Some(1_700_000_000_000));
        assert_eq!(expiry_ms("a.b.c"), None);
    }
}
