//! A proxy before moto, which fails as AWS KMS does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::{Value, json};

use super::http::Message;
use super::proxy::{self, Proxy};

/// What the proxy's own answers have as `x-amzn-requestid`.
pub(crate) const REQUEST_ID: &str = "3f1b2c66-0000-4000-8000-000000000001";

/// One proxy; it stops when dropped. Operations are called as in `Decrypt`,
/// and what is not KMS has none.
pub(crate) struct KmsProxy(Proxy);

/// One call as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) operation: String,
    /// From the scope of the signature.
    pub(crate) access_key: String,
    pub(crate) region: String,
    pub(crate) body: Value,
}

/// What to do instead of forwarding.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Forward, and make moto's only answer to a ciphertext of another key,
    /// which is a denial, the one that AWS gives.
    CorrectMoto,
    /// Forward, but wait first.
    Delay(Duration),
    /// Close the connection without an answer.
    Drop,
    /// Forward, and alter the JSON of the answer.
    Edit(fn(&mut Value)),
    /// Answer this.
    Raw { status: u16, body: String },
    /// Send the caller on to another server.
    Redirect(SocketAddr),
    /// Answer with the JSON of the request, in the text of a denial.
    Echo,
    /// An error of KMS, with headers.
    Refuse { status: u16, code: &'static str, headers: &'static [(&'static str, &'static str)] },
}

impl Fault {
    /// This answer, whatever it is.
    pub(crate) fn raw(status: u16, body: impl Into<String>) -> Self {
        Self::Raw { status, body: body.into() }
    }

    /// An error of KMS with status 400, as most are.
    pub(crate) fn refuse(code: &'static str) -> Self {
        Self::Refuse { status: 400, code, headers: &[] }
    }
}

impl KmsProxy {
    /// Starts one before `server`, on a free port.
    pub(crate) fn before(server: SocketAddr) -> Self {
        Self(Proxy::before(server, operation))
    }

    /// The same, speaking TLS to those who call.
    pub(crate) fn with_tls(server: SocketAddr, tls: Arc<ServerConfig>) -> Self {
        Self(Proxy::with_tls(server, operation, tls))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// How many calls of `operation` arrived.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.0.count(operation)
    }

    /// The calls of `operation`, in order.
    pub(crate) fn calls(&self, operation: &str) -> Vec<Call> {
        let mut calls = self.all_calls();
        calls.retain(|call| call.operation == operation);
        calls
    }

    /// All calls, in order.
    pub(crate) fn all_calls(&self) -> Vec<Call> {
        self.0
            .calls()
            .into_iter()
            .map(|(operation, request)| Call::of(operation, &request))
            .collect()
    }

    /// From now on, each call of `operation` meets `fault`.
    pub(crate) fn inject(&self, operation: &'static str, fault: Fault) {
        self.0.inject(operation, fault.into());
    }

    /// The next `times` calls of `operation` meet `fault`. Later rules go
    /// first.
    pub(crate) fn inject_times(&self, times: usize, operation: &'static str, fault: Fault) {
        self.0.inject_times(times, operation, fault.into());
    }

    /// From now on, all calls are forwarded.
    pub(crate) fn heal(&self) {
        self.0.heal();
    }
}

impl Call {
    fn of(operation: String, request: &Message) -> Self {
        // Credential=<access key>/<date>/<region>/kms/aws4_request
        let signature = request.header("authorization").unwrap_or_default();
        let scope = signature.split_once("Credential=").map_or("", |(_, scope)| scope);
        let part = |number| scope.split('/').nth(number).unwrap_or_default().to_owned();
        Self {
            operation,
            access_key: part(0),
            region: part(2),
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
        }
    }
}

impl From<Fault> for proxy::Fault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::CorrectMoto => Self::Alter(correct_moto),
            Fault::Delay(wait) => Self::Delay(wait),
            Fault::Drop => Self::Drop,
            Fault::Edit(edit) => Self::Edit(edit),
            Fault::Raw { status, body } => answer(status, &[], &body),
            Fault::Redirect(to) => answer(307, &[("location", &format!("http://{to}/"))], ""),
            Fault::Echo => Self::AnswerTo(echo),
            Fault::Refuse { status, code, headers } => {
                let body = json!({ "__type": code, "message": format!("injected {code}") });
                answer(status, headers, &body.to_string())
            }
        }
    }
}

fn operation(request: &Message) -> String {
    let target = request.header("x-amz-target").unwrap_or_default();
    target.trim_start_matches("TrentService.").to_owned()
}

fn correct_moto(answer: &mut Message) {
    let said = answer.header("x-amzn-errortype");
    if said == Some("AccessDeniedException") {
        let code = "IncorrectKeyException";
        let body = json!({ "__type": code, "message": "" }).to_string();
        let headers = [("x-amzn-requestid", REQUEST_ID)];
        *answer = Message::new("HTTP/1.1 400 Bad Request", &headers, body.as_bytes());
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> proxy::Fault {
    let mut all = vec![("x-amzn-requestid", REQUEST_ID)];
    all.extend(headers);
    proxy::Fault::answer(status, &all, body)
}

fn echo(request: &Message) -> Message {
    let echo = String::from_utf8_lossy(&request.body);
    let body = json!({ "__type": "AccessDeniedException", "message": echo });
    let headers = [("x-amzn-requestid", REQUEST_ID)];
    Message::new("HTTP/1.1 400 Injected", &headers, body.to_string().as_bytes())
}
