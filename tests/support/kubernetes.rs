//! Just enough of a Kubernetes API server for OpenBao to ask whose JWT it was
//! given.

use std::fs;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::base64;
use super::http::Message;
use super::tls::Authority;

/// With what OpenBao authenticates itself.
const REVIEWER: &str = "jwt-of-the-reviewer";

pub(crate) struct Kubernetes {
    address: SocketAddr,
    reviews: Arc<AtomicUsize>,
}

impl Kubernetes {
    pub(crate) const ACCOUNT: &str = "archiver";
    pub(crate) const NAMESPACE: &str = "backup";

    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it was bound");
        let reviews = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&reviews);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                thread::spawn(move || serve(connection, &counter));
            }
        });
        Self { address, reviews }
    }

    /// What `auth/<mount>/config` takes.
    pub(crate) fn configuration(&self) -> Value {
        let authority = Authority::trusted().certificate();
        json!({
            "kubernetes_host": format!("http://{}", self.address),
            "token_reviewer_jwt": REVIEWER,
            "kubernetes_ca_cert": fs::read_to_string(authority).unwrap(), // it wants one
            "disable_local_ca_jwt": true,
            "disable_iss_validation": true,
        })
    }

    /// How many JWTs of the account were reviewed.
    pub(crate) fn reviews(&self) -> usize {
        self.reviews.load(Ordering::SeqCst)
    }

    /// The JWT of the account.
    pub(crate) fn jwt(&self) -> String {
        jwt("signed by the cluster")
    }

    /// One with the same claims that somebody else signed.
    pub(crate) fn forged_jwt(&self) -> String {
        jwt("signed by somebody else")
    }
}

fn jwt(signature: &str) -> String {
    let header = json!({ "alg": "RS256", "typ": "JWT" });
    let claims = json!({
        "iss": "https://kubernetes.example",
        "sub": username(),
        "iat": 1_700_000_000u64,
        "nbf": 1_700_000_000u64,
        "exp": 4_000_000_000u64,
        "kubernetes.io": {
            "namespace": Kubernetes::NAMESPACE,
            "serviceaccount": { "name": Kubernetes::ACCOUNT, "uid": "uid-1" },
        },
    });
    let parts = [header.to_string(), claims.to_string(), signature.to_owned()];
    let parts = parts.map(|part| base64(part.as_bytes()).replace('+', "-").replace('/', "_"));
    parts.join(".").replace('=', "")
}

fn username() -> String {
    format!("system:serviceaccount:{}:{}", Kubernetes::NAMESPACE, Kubernetes::ACCOUNT)
}

fn serve(connection: TcpStream, reviews: &AtomicUsize) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some(request) = Message::read(&mut connection)? {
        review(&request, reviews).write(connection.get_mut())?;
    }
    Ok(())
}

fn review(request: &Message, reviews: &AtomicUsize) -> Message {
    let asked = request.first_line.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews ");
    let authorized = request.header("authorization") == Some(&format!("Bearer {REVIEWER}"));
    if !asked || !authorized {
        return Message::new("HTTP/1.1 403 Forbidden", &[], b"{}");
    }
    let review: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let genuine = review["spec"]["token"] == jwt("signed by the cluster");
    reviews.fetch_add(usize::from(genuine), Ordering::SeqCst);
    let status = match genuine {
        true => json!({
            "authenticated": true,
            "user": { "username": username(), "uid": "uid-1", "groups": [] },
        }),
        false => json!({ "authenticated": false, "error": "invalid bearer token" }),
    };
    let kind = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "status": status,
    });
    let headers = [("content-type", "application/json")];
    Message::new("HTTP/1.1 201 Created", &headers, kind.to_string().as_bytes())
}
