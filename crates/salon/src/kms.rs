//! A master key that AWS KMS keeps wrapped: asked for once, at the start.
//!
//! One call of one method is all that we need of AWS, so it is signed here (Signature Version 4) instead of bringing its
//! whole kit.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Url;
use salon_core::Time;
use salon_core::limit::Zone;
use salon_engine::Secret;
use salon_engine::upstream::guarded_client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::keys::hex;

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 * 1024;
const TARGET: &str = "TrentService.Decrypt";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const SIGNED: &str = "content-type;host;x-amz-date;x-amz-target";
const SIGNED_SESSION: &str = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target";

/// What KMS needs to know to unwrap the master key.
#[derive(Clone, Debug)]
pub struct Kms {
    /// What `aws kms encrypt` gave, in base64.
    pub ciphertext: String,
    pub region: String,
    /// Where KMS is, if not at `https://kms.<region>.amazonaws.com`.
    pub endpoint: Option<String>,
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
}

impl Kms {
    /// Asks KMS for the master key, and answers it as people write it. What was wrapped may be 32 raw bytes or the text.
    pub async fn unwrap(&self, now: Time) -> Result<Secret> {
        let url = self.url()?;
        let client = guarded_client(&[&url], |builder| builder.timeout(PATIENCE))?;
        let body = json!({ "CiphertextBlob": self.ciphertext.trim() }).to_string();
        let host = host(&url)?;
        let signature = self.sign(&host, &body, now)?;
        let mut request = client
            .post(url)
            .header("content-type", CONTENT_TYPE)
            .header("x-amz-date", &signature.date)
            .header("x-amz-target", TARGET)
            .header("authorization", &signature.authorization);
        if let Some(token) = &self.session_token {
            request = request.header("x-amz-security-token", token.expose());
        }
        let mut response =
            request.body(body).send().await.map_err(reqwest::Error::without_url).context("KMS does not answer")?;
        let status = response.status();
        let mut answer = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            ensure!(answer.len() + chunk.len() <= MAX_ANSWER, "KMS answered more than it should");
            answer.extend_from_slice(&chunk);
        }
        // What serde says of a broken answer may repeat it.
        let answer = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        ensure!(status.is_success(), "KMS refused: {status}, {}", refusal(&answer));
        let plain = answer.get("Plaintext").and_then(Value::as_str).and_then(|plain| STANDARD.decode(plain).ok());
        let plain = Zeroizing::new(plain.context("KMS answered without a key")?);
        match std::str::from_utf8(&plain) {
            Ok(text) if plain.len() != 32 => Ok(Secret::new(text.trim())),
            _ => Ok(Secret::new(URL_SAFE_NO_PAD.encode(&*plain))),
        }
    }

    fn url(&self) -> Result<Url> {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure!(!self.region.is_empty() && self.region.bytes().all(known), "{:?} is no AWS region", self.region);
        let text = self.endpoint.clone().unwrap_or_else(|| format!("https://kms.{}.amazonaws.com", self.region));
        let url: Url = text.parse().context("the endpoint of KMS is no address")?;
        ensure!(matches!(url.scheme(), "https" | "http"), "the endpoint of KMS begins with https://");
        ensure!(url.path() == "/" && url.query().is_none(), "the endpoint of KMS has no path");
        Ok(url)
    }

    fn sign(&self, host: &str, body: &str, now: Time) -> Result<Signature> {
        let day = Zone::utc().day(now).replace('-', "");
        ensure!(day.len() == 8, "the clock is far off");
        let date = format!("{day}T{}Z", now.hms().replace(':', ""));
        let (token, signed) = match &self.session_token {
            Some(token) => (format!("x-amz-security-token:{}\n", token.expose()), SIGNED_SESSION),
            None => (String::new(), SIGNED),
        };
        let request = format!(
            "POST\n/\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\nx-amz-date:{date}\n{token}x-amz-target:{TARGET}\n\n\
             {signed}\n{}",
            hex(&Sha256::digest(body.as_bytes()))
        );
        let scope = format!("{day}/{}/kms/aws4_request", self.region);
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
        let first = Zeroizing::new(format!("AWS4{}", self.secret_access_key.expose()));
        let key = mac(first.as_bytes(), &day);
        let key = mac(&*mac(&*mac(&*key, &self.region), "kms"), "aws4_request");
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={}",
            self.access_key_id,
            hex(&*mac(&*key, &to_sign))
        );
        Ok(Signature { date, authorization })
    }
}

struct Signature {
    date: String,
    authorization: String,
}

fn mac(key: &[u8], text: &str) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// The host as the client will send it.
fn host(url: &Url) -> Result<String> {
    let host = url.host_str().context("the endpoint of KMS has no host")?;
    Ok(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// AWS's name for what is wrong, which has nothing of ours in it.
fn refusal(answer: &Value) -> String {
    let name = answer.get("__type").and_then(Value::as_str).unwrap_or("without a reason");
    name.rsplit('#')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == ' ')
        .take(80)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kms() -> Kms {
        Kms {
            ciphertext: "AQICAHg=".to_owned(),
            region: "eu-west-1".to_owned(),
            endpoint: None,
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        }
    }

    #[test]
    fn a_call_is_signed_as_others_sign_it() {
        let kms = kms();
        let body = json!({ "CiphertextBlob": kms.ciphertext }).to_string();
        let sign = |kms: &Kms| {
            let host = host(&kms.url().expect("an address")).expect("a host");
            let signature = kms.sign(&host, &body, Time(1_769_947_200_000)).expect("a signature");
            assert_eq!(signature.date, "20260201T120000Z");
            signature.authorization
        };
        // By botocore, for the same call at the same time.
        assert_eq!(
            sign(&kms),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260201/eu-west-1/kms/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=369d6306bc6bfca2dc7f82a462a2844431997c0a77b093f9201a1324be46159a"
        );
        assert_eq!(
            sign(&Kms { session_token: Some(Secret::new("token")), ..kms }),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260201/eu-west-1/kms/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=6483245c151e00a29a8c1fd630d8bebeb01fb8882f48891597bd71617b384e06"
        );
    }

    #[test]
    fn what_is_set_wrongly_is_said() {
        let url = |region: &str, endpoint: Option<&str>| {
            Kms { region: region.to_owned(), endpoint: endpoint.map(str::to_owned), ..kms() }.url()
        };
        assert_eq!(url("eu-west-1", None).expect("an address").as_str(), "https://kms.eu-west-1.amazonaws.com/");
        assert!(url("eu.evil.example/", None).is_err());
        assert!(url("eu-west-1", Some("http://127.0.0.1:5000")).is_ok());
        for endpoint in ["kms", "ftp://kms", "https://kms/path", "https://kms/?a=b"] {
            assert!(url("eu-west-1", Some(endpoint)).is_err(), "{endpoint}");
        }
        assert!(!format!("{:?}", kms()).contains("wJalr"));
    }
}
