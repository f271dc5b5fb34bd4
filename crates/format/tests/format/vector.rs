//! The worked vector of `docs/format.md` is what the code computes.

use std::fmt::Write;

use twinlock_format::schedule::{self, ShareBinding};
use twinlock_format::{
    EncryptionContext, EnvelopeId, Header, Padding, PairId, PairKeyslot, PayloadSuite,
    ShareAlgorithm, ShareSlot, UnverifiedHeader, WrappedPair,
};

use crate::schedule::{binding_hash, expand, hmac, kek_info, payload_aad_input, sha384};

const PAGE: &str = include_str!("../../../../docs/format.md");
const PROVIDER_URI: &str = "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/k";
const CUSTOMER_URI: &str = "pkcs11:token=t;object=k";

#[test]
fn the_page_shows_what_the_code_computes() {
    let (_, rest) = PAGE.split_once("<!-- vector begin -->\n").expect("the first marker");
    let (shown, _) = rest.split_once("<!-- vector end -->").expect("the second marker");
    let computed = format!("```\n{}```\n", vector());
    assert!(shown == computed, "between the markers should stand:\n{computed}");
}

fn vector() -> String {
    let (dek, provider_share, customer_share) = (counting(0x00), counting(0x60), counting(0x80));
    let (envelope_id, pair_id) = (EnvelopeId(counting(0x20)), PairId(counting(0x40)));
    let nonce = *counting(0xa0).first_chunk::<12>().unwrap();
    let context = EncryptionContext::from_pairs([("bucket", "b"), ("id", "7")]).unwrap();
    let mut out = Lines::default();
    out.line("DEK", &dek);
    out.line("envelope id", &envelope_id.0);
    out.line("pair id", &pair_id.0);
    out.line("P", &provider_share);
    out.line("C", &customer_share);
    out.line("nonce", &nonce);
    out.line("encryption context", &context.encoded());

    out.section("From the DEK");
    let prk = hmac(&envelope_id.0, &dek);
    let header_key = schedule::header_key(&dek, &envelope_id);
    out.line("PRK = Extract(envelope id, DEK)", &prk);
    out.checked(
        "payload key",
        &*schedule::payload_key(&dek, &envelope_id),
        &expand(&prk, b"twinlock/v1 payload", 32),
    );
    out.checked("header key", header_key.as_bytes(), &expand(&prk, b"twinlock/v1 header", 48));
    let input = payload_aad_input(&envelope_id, &context);
    let payload_aad = schedule::payload_aad(PayloadSuite::Floe, &envelope_id, &context);
    out.line("CBOR[payload suite, envelope id, encryption context]", &input);
    out.checked(
        "payload AAD",
        &payload_aad,
        &[b"twinlock/v1 payload aad\0", &*sha384(&input)].concat(),
    );

    out.section("Shares");
    let binding = ShareBinding::new(&pair_id, &context);
    let mut slot = |side: u64, uri, share: &[u8; 32], wrapped: &[u8], version| {
        let (of, aad) =
            [("P", binding.provider()), ("C", binding.customer())][usize::try_from(side).unwrap()];
        let hash = binding_hash(side, &pair_id, &context);
        let check = schedule::share_check(share, aad);
        out.line(&format!("H of {of}"), &hash);
        out.checked(
            &format!("share AAD of {of}"),
            aad.as_bytes(),
            &[b"twinlock/v1 share\0", &*hash].concat(),
        );
        let label = [b"twinlock/v1 share check\0", &*hash].concat();
        out.checked(&format!("check of {of}"), &check, &hmac(share, &label)[..32]);
        ShareSlot::new(uri, ShareAlgorithm::HolderAead, wrapped.to_vec(), check, version).unwrap()
    };
    let provider = slot(0, PROVIDER_URI, &provider_share, b"wrapped P", None);
    let customer = slot(1, CUSTOMER_URI, &customer_share, b"wrapped C", Some("1".to_owned()));
    let pair = WrappedPair::new(pair_id, provider, customer).unwrap();

    out.section("KEK");
    let prk = hmac(&envelope_id.0, &[provider_share, customer_share].concat());
    let kek = schedule::kek(&provider_share, &customer_share, &envelope_id, &pair);
    let wrapped_dek = schedule::wrap_dek(&kek, &envelope_id, &nonce, &dek);
    out.line("PRK = Extract(envelope id, P || C)", &prk);
    out.line("info", &kek_info(&pair));
    out.checked("KEK", &*kek, &expand(&prk, &kek_info(&pair), 32));
    out.line("wrapped DEK", &wrapped_dek);

    out.section("Header");
    let header =
        Header::new(envelope_id, context, vec![PairKeyslot::new(pair, wrapped_dek).into()]);
    let unsigned = header.unwrap().encode(Padding::Bytes(7)).unwrap();
    out.line("prefix", &unsigned.as_bytes()[..16]);
    out.line("body", &unsigned.as_bytes()[16..]);
    let expected = hmac(header_key.as_bytes(), unsigned.as_bytes());
    let bytes = unsigned.sign(&header_key);
    out.checked("header tag", &bytes[bytes.len() - 32..], &expected[..32]);
    UnverifiedHeader::parse(bytes).unwrap().verify(&header_key).unwrap();
    out.0
}

/// `first`, `first + 1`, …: 32 bytes.
fn counting(first: u8) -> [u8; 32] {
    std::array::from_fn(|i| first + u8::try_from(i).unwrap())
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn section(&mut self, title: &str) {
        writeln!(self.0, "\n# {title}\n").unwrap();
    }

    fn line(&mut self, name: &str, bytes: &[u8]) {
        writeln!(self.0, "{name} ({} bytes)", bytes.len()).unwrap();
        bytes.chunks(32).for_each(|line| writeln!(self.0, "  {}", hex::encode(line)).unwrap());
    }

    /// What the crate computes, after the tests' own computation agreed.
    fn checked(&mut self, name: &str, bytes: &[u8], expected: &[u8]) {
        assert_eq!(hex::encode(bytes), hex::encode(expected), "{name}");
        self.line(name, bytes);
    }
}
