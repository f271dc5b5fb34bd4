//! The seeds that are made, not found: where the fuzzer starts. A change of
//! format makes them stale, and then this fails:
//!
//!     TWINLOCK_WRITE_SEEDS=1 cargo test --manifest-path fuzz/Cargo.toml

use std::fs;
use std::path::Path;

use twinlock_floe::{Backend, OpenKey};
use twinlock_format::{DetachedPrefix, EnvelopeId, UnverifiedHeader};

use crate::counting_from;
use crate::envelope::original::Original;

#[test]
fn the_made_seeds_are_current() {
    for (name, bytes) in segments()
        .into_iter()
        .chain(headers())
        .chain(journals())
        .chain(key_uris())
        .chain(envelopes())
        .chain(signed_requests())
        .chain(xks_bodies())
        .chain(xks_paths())
        .chain(dke_bodies())
        .chain(dke_paths())
        .chain(dke_tokens())
    {
        let path = below_fuzz(&format!("corpus/{name}"));
        if std::env::var_os("TWINLOCK_WRITE_SEEDS").is_some() {
            fs::create_dir_all(path.parent().expect("a target's folder")).expect("a folder");
            fs::write(&path, &bytes).expect("a seed");
        }
        assert!(fs::read(&path).is_ok_and(|old| old == bytes), "{name} is stale");
    }
}

#[test]
fn every_seed_passes() {
    let targets: [Target; 11] = [
        ("dke_body", crate::dke_body),
        ("dke_path", crate::dke_path),
        ("dke_token", crate::dke_token),
        ("envelope", crate::envelope),
        ("header", crate::header),
        ("journal", crate::journal),
        ("key_uri", crate::key_uri),
        ("segment", crate::segment),
        ("sigv4", crate::sigv4),
        ("xks_body", crate::xks_body),
        ("xks_path", crate::xks_path),
    ];
    for (name, target) in targets {
        let folder = fs::read_dir(below_fuzz("corpus").join(name)).expect("a corpus");
        for seed in folder.flatten() {
            target(&fs::read(seed.path()).expect("a seed"));
        }
    }
}

#[test]
fn vectors_open_and_headers_parse() {
    for (name, payload) in segments() {
        let header = payload.first_chunk().expect("a FLOE header");
        let opened =
            OpenKey::open(&counting_from(0), b"twinlock-floe test", header, Backend::default());
        assert!(opened.is_ok(), "{name}");
    }
    assert!(UnverifiedHeader::parse(worked_vector()).is_ok());
}

type Seed = (String, Vec<u8>);
type Target = (&'static str, fn(&[u8]));

/// The project's FLOE vectors, but the long one.
fn segments() -> Vec<Seed> {
    let folder = fs::read_dir(below_fuzz("../crates/floe/vectors")).expect("the vectors");
    let files = folder.flatten().map(|file| file.path());
    let vectors = files.filter(|path| path.extension().is_some_and(|it| it == "txt"));
    let seeds = vectors.map(|path| {
        let text = fs::read_to_string(&path).expect("a vector");
        let stem = path.file_stem().expect("a name").to_string_lossy();
        let payload = [hex_below(&text, "header:"), hex_below(&text, "segments:")].concat();
        (format!("segment/vector-{stem}"), payload)
    });
    seeds.filter(|(_, payload)| payload.len() < 10_000).collect()
}

fn headers() -> Vec<Seed> {
    let header = worked_vector();
    let body = header[16..header.len() - 32].to_vec();
    let two_segments = Original::new(0x40).pieces.concat()[..6000].to_vec();
    let detached = DetachedPrefix { envelope_id: EnvelopeId(counting_from(0)) };
    vec![
        ("header/worked-vector".to_owned(), header),
        ("header/body-of-the-worked-vector".to_owned(), body),
        ("header/file-cut-short".to_owned(), two_segments),
        ("header/detached-prefix".to_owned(), detached.encode().to_vec()),
    ]
}

/// `docs/format.md`, "Worked vector".
fn worked_vector() -> Vec<u8> {
    let page = fs::read_to_string(below_fuzz("../docs/format.md")).expect("the format's page");
    let vector = page.split("<!-- vector begin -->").nth(1).expect("a worked vector");
    ["prefix (16 bytes)", "body (352 bytes)", "header tag (32 bytes)"]
        .map(|name| hex_below(vector, name))
        .concat()
}

/// `PIN` stands for a PIN: see `key_uri.rs`.
fn key_uris() -> Vec<Seed> {
    let uris = [
        ("aws-key", "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/mrk-0a1b"),
        ("aws-alias", "aws-kms://alias/archive"),
        ("azure", "azure-kv://Vault.Azure.net/keys/Kek-1"),
        ("dke", "dke+https://dke.example:8443/label/Key"),
        ("file", "file:///tmp/my%20kek"),
        ("gcp", "gcp-kms://projects/p/locations/europe/keyRings/r/cryptoKeys/k"),
        ("vault", "vault://Bao.example:8200/transit/keys/k"),
        ("pkcs11-name", "pkcs11:serial=1;token=%C3%A9;object=a%3Bb;id=%0a%FF;type=secret-key"),
        (
            "pkcs11-with-pin",
            "pkcs11:token=t;object=o;slot-id=3?module-path=/usr/lib/p11.so&pin-value=PIN",
        ),
        ("pkcs11-slot", "pkcs11:slot-id=3?module-path=/m.so"),
        ("pkcs11-with-source", "pkcs11:token=t;object=o?pin-source=file:/run/pin"),
        ("pkcs11-with-misplaced-pin", "pkcs11:token=t;pin-value=PIN;object=o"),
    ];
    uris.map(|(name, uri)| (format!("key_uri/{name}"), uri.as_bytes().to_vec())).into()
}

fn envelopes() -> Vec<Seed> {
    let whole = Original::new(0x40).pieces;
    let without_end = whole[..whole.len() - 1].concat();
    vec![
        ("envelope/whole".to_owned(), whole.concat()),
        ("envelope/without-its-last-segment".to_owned(), without_end),
    ]
}

fn journals() -> Vec<Seed> {
    let [own, sibling] = [0x40, 0x60].map(|first| Original::new(first).pieces[0].clone());
    let torn = own[..own.len() / 2].to_vec();
    vec![
        ("journal/header-of-the-file".to_owned(), own),
        ("journal/header-of-a-sibling".to_owned(), sibling),
        ("journal/half-written".to_owned(), torn),
    ]
}

fn signed_requests() -> Vec<Seed> {
    let [encrypt, health] = crate::sigv4::SIGNED;
    let over_http2 =
        encrypt.replace("/encrypt\nHost: xks.example.com\n", "/encrypt xks.example.com\n");
    let seeds = [
        ("encrypt", encrypt),
        ("encrypt-over-http2", &over_http2),
        ("health", health),
        ("no-such-day", &health.replace("20261118T", "20261131T")),
        ("other-body", &health.replace("{}", "[]")),
    ];
    seeds.map(|(name, text)| (format!("sigv4/{name}"), text.as_bytes().to_vec())).into()
}

fn xks_bodies() -> Vec<Seed> {
    let seeds = [
        (
            "encrypt",
            r#"{"requestMetadata":{"awsPrincipalArn":"arn:aws:iam::1:user/A","kmsKeyArn":"arn","kmsOperation":"Encrypt","kmsRequestId":"4112f4d6"},"additionalAuthenticatedData":"YT1i","plaintext":"SGVsbG8gV29ybGQh","encryptionAlgorithm":"AES_GCM","ciphertextDataIntegrityValueAlgorithm":"SHA_256"}"#,
        ),
        (
            "decrypt",
            r#"{"requestMetadata":{"awsPrincipalArn":"AWS Internal","kmsKeyArn":"arn","kmsOperation":"Decrypt","kmsRequestId":"5112f4d6","kmsViaService":"ebs"},"additionalAuthenticatedData":null,"encryptionAlgorithm":"AES_GCM","ciphertext":"ghxkK1txeDNn3q8Y","ciphertextMetadata":"AQAAAAE=","initializationVector":"HMrlRw85cAJUd5Ax","authenticationTag":"vBxN2ncH1oEkR8WVXpmyYQ=="}"#,
        ),
        (
            "metadata",
            r#"{"requestMetadata":{"awsPrincipalArn":"arn","kmsOperation":"CreateKey","kmsRequestId":"\u0041","unknown":[{}]}}"#,
        ),
        ("health", r#"{"requestMetadata":{"kmsOperation":"KmsHealthCheck","kmsRequestId":"1"}}"#),
    ];
    seeds.map(|(name, text)| (format!("xks_body/{name}"), text.as_bytes().to_vec())).into()
}

fn xks_paths() -> Vec<Seed> {
    let seeds = [
        ("encrypt", "/tenant-a/kms/xks/v1/keys/key-1/encrypt"),
        ("decrypt", "/kms/xks/v1/keys/K.1_/decrypt"),
        ("metadata", "/a/b/kms/xks/v1/keys/.../metadata"),
        ("health", "/kms/xks/v1/health"),
        ("encoded", "/kms/xks/v1/keys/%2e%2e/encrypt"),
        ("prefix", "/tenant-a/B_9"),
    ];
    seeds.map(|(name, path)| (format!("xks_path/{name}"), path.as_bytes().to_vec())).into()
}

fn dke_bodies() -> Vec<Seed> {
    let seeds = [
        ("decrypt", r#"{"alg":"RSA-OAEP-256","value":"SGVsbG8gV29ybGQh"}"#),
        ("other-case", r#"{"Value":"SGVs\r\nbG8gV2\u0039ybGQh","ALG":"RSA-OAEP-256","x":[{}]}"#),
        ("twice", r#"{"alg":"RSA-OAEP-256","value":"QQ==","VALUE":"Qg=="}"#),
    ];
    seeds.map(|(name, text)| (format!("dke_body/{name}"), text.as_bytes().to_vec())).into()
}

fn dke_paths() -> Vec<Seed> {
    let seeds = [
        ("get", "https://dke.example.org\n/Confidential\nConfidential\n8f0c6f0e-4c1e"),
        ("decrypt", "https://h:8443/ms_dke\n/ms_dke/k//id/Decrypt\nk\nid"),
        ("slashes", "https://[::1]/a/b/\n//a/b//k/\n...\n-"),
    ];
    seeds.map(|(name, text)| (format!("dke_path/{name}"), text.as_bytes().to_vec())).into()
}

fn dke_tokens() -> Vec<Seed> {
    let claims = r#"{"iss":"https://sts.windows.net/t/","aud":["a"],"exp":1.5e9,"upn":"a@b"}"#;
    let seeds = [
        ("claims", claims.to_owned()),
        ("both", format!("{{\"alg\":\"RS256\",\"typ\":\"at+jwt\",\"kid\":\"k\"}}\n{claims}")),
        ("twice", r#"{"iss":"a","\u0069ss":"b","x":{"a":1,"a":2}}"#.to_owned()),
        ("whole", "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.AAAA".to_owned()),
    ];
    seeds.map(|(name, text)| (format!("dke_token/{name}"), text.into_bytes())).into()
}

/// The hexadecimal lines that are indented below the line `name`.
fn hex_below(text: &str, name: &str) -> Vec<u8> {
    let below = text.lines().skip_while(|line| *line != name).skip(1);
    let digits: Vec<u8> = below
        .take_while(|line| line.starts_with("  "))
        .flat_map(|line| line.trim().bytes())
        .collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit");
    let byte = |pair: &[u8]| u8::try_from(digit(pair[0]) << 4 | digit(pair[1]));
    digits.chunks_exact(2).map(|pair| byte(pair).expect("two digits")).collect()
}

fn below_fuzz(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
