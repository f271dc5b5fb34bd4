//! No share and no token in any log, ours or the server's.

use serde_json::json;
use twinlock_keys::{KeyHolder as _, Share};

use super::rig::{Rig, context, token};
use crate::support::logs::recorded;
use crate::support::openbao::openbao;
use crate::support::process::in_a_process;

const SHARE: &[u8; 32] = b"twinlock twinlock twinlock twinl";
const IN_BASE64: &str = "dHdpbmxvY2sgdHdpbmxvY2sg";

#[test]
fn each_call_leaves_one_line_and_no_secret() {
    in_a_process("vault::logs::each_call_leaves_one_line_and_no_secret", a_few_calls);
}

async fn a_few_calls() {
    let (log, _recording) = recorded();
    let rig = Rig::new();
    let secret = openbao().token(&rig.policy(), &json!({}));
    let key = rig.key_with(&rig.options().auth(token(&secret)));
    let share = Share::copy_of(SHARE);
    let wrapped = key.wrap_key(&share, &context()).await.unwrap();
    let opened = key.unwrap_key(&wrapped, &context()).await.unwrap();

    let text = log.text();
    for hidden in [IN_BASE64, "twinlock twinlock", &secret, "plaintext"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    let request_id = opened.answer().unwrap().request_id.clone().unwrap();
    for (operation, more) in [("encrypt", ""), ("decrypt", request_id.as_str())] {
        let ours = |line: &&str| line.contains(&format!("operation=\"{operation}\""));
        let lines: Vec<&str> = text.lines().filter(ours).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(lines[0].contains("DEBUG") && lines[0].contains(key.uri().as_str()), "{text}");
        assert!(lines[0].contains("request_id=") && lines[0].contains(more), "{text}");
    }

    let audit = openbao().audit_log();
    assert!(audit.contains(&request_id), "the audit log has the call under our evidence");
    assert!(!audit.contains(IN_BASE64) && !audit.contains(&secret));
}
