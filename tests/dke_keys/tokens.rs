//! Where tokens come from, and what happens when they end.

use std::path::Path;

use twinlock_keys::{HolderError, HolderErrorKind as Kind};
use twinlock_remote_keys::dke::{
    Credential, DkeKey, OauthClient, TokenSource, forget_login, start_login,
};

use super::rig::{LISTED, NAME, Rig, run, unwrap, wrap};
use crate::support::key_service::{ASSERTION, CLIENT, SCOPE, SECRET, token_number};
use crate::support::proxy::Fault;

impl Rig {
    fn with(&self, source: TokenSource) -> DkeKey {
        self.key(&self.options(LISTED).token(source))
    }

    fn client(&self) -> OauthClient {
        OauthClient::new(self.proxy.url(), CLIENT).scope(SCOPE)
    }

    /// Lets whoever gets the issuer's first tokens decrypt.
    fn list_given(&self, count: usize) {
        self.service.change(NAME, |key| key.tokens.extend((1..=count).map(token_number)));
    }

    /// Tokens that the issuer has given are good no more.
    fn end_given(&self, count: usize) {
        self.service.end_tokens();
        self.service.change(NAME, |key| {
            for number in 1..=count {
                key.tokens.remove(&token_number(number));
            }
        });
    }

    async fn log_in(&self, file: &Path) -> Result<(), HolderError> {
        let pending = start_login(&self.client(), &self.options(LISTED)).await?;
        assert_eq!(pending.user_code(), "WDJB-MJHT");
        assert_eq!(pending.verification_uri(), "https://issuer.example/device");
        pending.finish(file).await
    }

    fn login(&self, file: &Path) -> TokenSource {
        TokenSource::Login { client: self.client(), file: file.to_owned() }
    }
}

#[test]
fn a_token_in_a_file_is_read_again_for_each_call() {
    run(async {
        let rig = Rig::new();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let key = rig.with(TokenSource::Bearer(Credential::File(file.clone())));
        let wrapped = wrap(&key).await.unwrap();
        assert_eq!(unwrap(&key, &wrapped).await.unwrap_err().kind(), Kind::Misconfigured);
        std::fs::write(&file, "an-old-token\n").unwrap();
        assert_eq!(unwrap(&key, &wrapped).await.unwrap_err().kind(), Kind::Denied);
        std::fs::write(&file, format!("{LISTED}\n")).unwrap();
        assert_eq!(unwrap(&key, &wrapped).await.unwrap(), [7; 32]);
    });
}

#[test]
fn a_command_is_asked_again_when_its_token_is_refused() {
    run(async {
        let rig = Rig::new();
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        // The first one is over, the second is good.
        let script = format!(
            "echo x >> {count}; test $(wc -l < {count}) = 1 && echo old-token || echo {LISTED}",
            count = count.display()
        );
        let words = ["sh", "-c", &script].map(str::to_owned);
        let key = rig.with(TokenSource::Command(words.into()));
        let wrapped = wrap(&key).await.unwrap();
        for _ in 0..3 {
            assert_eq!(unwrap(&key, &wrapped).await.unwrap(), [7; 32]);
        }
        assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\nx\n", "kept while it is good");
        assert_eq!(rig.proxy.count("decrypt"), 4);
    });
}

#[test]
fn a_program_and_a_workload_get_tokens_from_the_issuer() {
    run(async {
        for source in ["secret", "assertion"] {
            let rig = Rig::new();
            rig.list_given(2);
            let client = rig.client();
            let key = rig.with(match source {
                "secret" => TokenSource::ClientCredentials {
                    client,
                    secret: Credential::Value(SECRET.into()),
                },
                _ => TokenSource::Federated {
                    client,
                    assertion: Credential::Value(ASSERTION.into()),
                },
            });
            let wrapped = wrap(&key).await.unwrap();
            for _ in 0..2 {
                assert_eq!(unwrap(&key, &wrapped).await.unwrap(), [7; 32]);
            }
            assert_eq!(rig.proxy.count("token"), 1, "{source}: kept while it is good");
            rig.end_given(1);
            assert_eq!(unwrap(&key, &wrapped).await.unwrap(), [7; 32]);
            assert_eq!(rig.proxy.count("token"), 2, "{source}: and obtained anew");
        }
    });
}

#[test]
fn a_wrong_secret_is_denied_and_not_shown() {
    run(async {
        let rig = Rig::new();
        let secret = Credential::Value("a-wrong-secret".into());
        let key = rig.with(TokenSource::ClientCredentials { client: rig.client(), secret });
        let wrapped = wrap(&key).await.unwrap();
        let error = unwrap(&key, &wrapped).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        let text = format!("{error} {error:?}");
        assert!(text.contains("invalid_client") && text.contains(&rig.proxy.url()), "{text}");
        assert!(!text.contains("a-wrong-secret") && !text.contains(SECRET), "{text}");
    });
}

#[test]
fn an_issuer_that_is_not_the_one_is_refused() {
    run(async {
        let rig = Rig::new();
        rig.list_given(9);
        let secret = || Credential::Value(SECRET.into());
        let credentials = |client| TokenSource::ClientCredentials { client, secret: secret() };
        let wrapped = wrap(&rig.listed()).await.unwrap();
        let other: fn(&mut serde_json::Value) = |it| it["issuer"] = "https://other".into();
        let clear: fn(&mut serde_json::Value) =
            |it| it["token_endpoint"] = "http://issuer.example/token".into();
        for edit in [other, clear] {
            rig.proxy.inject("metadata", Fault::Edit(edit));
            let error = unwrap(&rig.with(credentials(rig.client())), &wrapped).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Failed, "{error}");
            assert!(error.to_string().contains("issuer"), "{error}");
        }
        assert_eq!(rig.proxy.count("token"), 0, "no secret was sent");
        let far = OauthClient::new("http://issuer.example", CLIENT);
        let error = unwrap(&rig.with(credentials(far)), &wrapped).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Misconfigured, "{error}");
    });
}

#[test]
fn a_person_logs_in_once_and_the_login_is_renewed() {
    run(async {
        let rig = Rig::new();
        rig.list_given(3);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("logins/one.json");
        let wrapped = wrap(&rig.listed()).await.unwrap();
        let error = unwrap(&rig.with(rig.login(&file)), &wrapped).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Misconfigured);
        assert!(error.to_string().contains("twinlock login"), "{error}");

        rig.service.confirm_after(2);
        rig.log_in(&file).await.unwrap();
        assert_eq!(rig.proxy.count("token"), 3, "asked until it was confirmed");
        assert_eq!(unwrap(&rig.with(rig.login(&file)), &wrapped).await.unwrap(), [7; 32]);

        // The token ends; what renews it is good once, and replaced.
        for ended in 1..=2 {
            rig.end_given(ended);
            assert_eq!(unwrap(&rig.with(rig.login(&file)), &wrapped).await.unwrap(), [7; 32]);
        }
        rig.end_given(3);
        rig.service.end_logins();
        let error = unwrap(&rig.with(rig.login(&file)), &wrapped).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains("is over"), "{error}");

        assert!(forget_login(&file, &rig.options(LISTED)).await.unwrap());
        let error = unwrap(&rig.with(rig.login(&file)), &wrapped).await.unwrap_err();
        assert!(error.to_string().contains("nobody is logged in"), "{error}");
    });
}

#[test]
fn a_token_whose_time_is_over_is_renewed_before_it_is_sent() {
    run(async {
        let rig = Rig::new();
        rig.list_given(2);
        rig.service.give_for(0);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one.json");
        rig.log_in(&file).await.unwrap();
        let wrapped = wrap(&rig.listed()).await.unwrap();
        assert_eq!(unwrap(&rig.with(rig.login(&file)), &wrapped).await.unwrap(), [7; 32]);
        let (_, request) = rig.proxy.calls().pop().unwrap();
        let sent = request.header("authorization").unwrap();
        assert_eq!(sent, format!("Bearer {}", token_number(2)));
    });
}

#[test]
fn a_login_that_is_declined_leaves_nothing() {
    run(async {
        let rig = Rig::new();
        rig.service.decline();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one.json");
        let error = rig.log_in(&file).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains("declined"), "{error}");
        assert!(!file.exists());
    });
}
