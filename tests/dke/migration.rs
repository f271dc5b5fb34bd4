//! From Microsoft's sample to this service, by the commands that `import` prints.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;

use super::client::{OAEP, openssl};
use super::issuer::{ALICE, ISSUER, TENANT, Token};
use super::service::{Dke, ORIGIN, decrypt_request, eventually, reloaded};
use crate::support::cli::{Ended, program, run};
use crate::support::softhsm::uri_in;

/// The sample's keys are of RSA-2048, and the first of a name is the active one.
#[test]
fn what_the_sample_protected_opens_here() {
    let mut dke = Dke::prepared();
    let home = dke.dir.home();
    let keys = ["new", "old"].map(|name| private_key(&home, name));
    fs::write(home.join("appsettings.json"), settings(&keys)).unwrap();

    let imported = importer(&dke, &[]).ok();
    for command in commands(&imported.stderr, "--from") {
        shell(&dke, &command).ok();
    }
    dke.write_config(&with_keys_of(&dke, &imported.text()));
    run(dke.command("check-config"), b"").ok();
    dke.run();
    dke.wait_until_ready();

    assert_eq!(dke.public_key("Secret").id, format!("{ORIGIN}/Secret/new"));
    for name in ["new", "old"] {
        let ciphertext = encrypted(&home, name);
        let path = format!("/Secret/{name}/decrypt");
        let request = decrypt_request(&Token::of(ALICE).signed(), &path, &ciphertext);
        assert_eq!(dke.send(&request).plaintext(), b"protected");
    }

    // A generation that was never elsewhere, as it is told in the end.
    let [create] = &commands(&imported.stderr, "--type")[..] else { panic!("{}", imported.stderr) };
    shell(&dke, create).ok();
    let config = fs::read_to_string(dke.config_file()).unwrap();
    let newest = "generations = [{ number = 3, id = \"newest\", object = \"dke-Secret-3\" },";
    reloaded(&dke, &config.replace("generations = [", newest));
    eventually("it is published", || dke.public_key("Secret").id.ends_with("/newest"));
    let public = dke.public_key("Secret");
    assert_eq!(public.modulus.len(), 256, "2048 bits, which all clients know");
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");
}

#[test]
fn a_private_key_goes_nowhere_else() {
    let dke = Dke::prepared();
    let home = dke.dir.home();
    let key = private_key(&home, "only");
    fs::write(home.join("appsettings.json"), settings(std::slice::from_ref(&key))).unwrap();
    assert_eq!(importer(&dke, &["--private-key", "0"]).ok().stdout, key);
    let secret = BASE64_STANDARD.encode(&key);
    let imported = importer(&dke, &[]).ok();
    assert!(!(imported.text() + &imported.stderr).contains(&secret[100..140]));

    for (settings, entry, reason) in [
        (settings(std::slice::from_ref(&key)), "1", "TestKeys[1]: there is none"),
        (settings(&[]), "0", "no TestKeys"),
        (settings(&[Vec::new()]), "0", "it has no PrivatePem"),
        (settings(&[key]).replace("\"PrivatePem\":\"", "\"PrivatePem\":\"-"), "0", "no base64"),
    ] {
        fs::write(home.join("appsettings.json"), settings).unwrap();
        let refused = importer(&dke, &["--private-key", entry]).with(2);
        assert!(refused.stdout.is_empty() && refused.stderr.contains(reason), "{}", refused.stderr);
        assert!(!refused.stderr.contains(&secret[100..140]), "{}", refused.stderr);
    }
}

/// `appsettings.json`, with the comment and the comma that .NET lets people have.
fn settings(keys: &[Vec<u8>]) -> String {
    let ids = ["new", "old"];
    let entry = |(key, id): (&Vec<u8>, &str)| {
        json!({
            "Name": "Secret", "Id": id, "AuthorizedEmailAddress": [ALICE],
            "CacheExpirationInDays": 1, "PublicPem": "", "PrivatePem": BASE64_STANDARD.encode(key),
        })
    };
    let settings = json!({
        "AzureAd": {"TenantId": TENANT, "TokenValidationParameters": {"ValidIssuers": [ISSUER]}},
        "JwtAudience": ORIGIN,
        "TestKeys": keys.iter().zip(ids).map(entry).collect::<Vec<_>>(),
    });
    settings.to_string().replacen('{', "{ // of the sample\n", 1).replace("]}", "],}")
}

/// Makes one as the sample's documentation has it: PKCS #1.
fn private_key(folder: &Path, name: &str) -> Vec<u8> {
    let pem = format!("{name}.pem");
    openssl(folder, &["genrsa", "-traditional", "-out", &pem, "2048"], b"");
    openssl(folder, &["rsa", "-traditional", "-in", &pem, "-outform", "DER"], b"")
}

/// What a client has protected with that key.
fn encrypted(folder: &Path, name: &str) -> Vec<u8> {
    let pem = format!("{name}.pem");
    let arguments = ["pkeyutl", "-encrypt", "-inkey", &pem];
    let options = OAEP.iter().flat_map(|option| ["-pkeyopt", option]);
    let arguments: Vec<_> = arguments.into_iter().chain(options).collect();
    openssl(folder, &arguments, b"protected")
}

fn importer(dke: &Dke, arguments: &[&str]) -> Ended {
    let mut command = Command::new(program().with_file_name("twinlock-dke"));
    command.arg("import").args(arguments).arg("appsettings.json").current_dir(dke.dir.home());
    run(command, b"")
}

/// The commands that are told, indented, and have that flag; each with the token
/// and the module that people put there.
fn commands(told: &str, flag: &str) -> Vec<String> {
    let is_command = |paragraph: &&str| paragraph.starts_with("    ") && paragraph.contains(flag);
    told.split("\n\n").filter(is_command).map(str::to_owned).collect()
}

fn shell(dke: &Dke, told: &str) -> Ended {
    let (before, uri) = told.split_once("'pkcs11:token=CHANGE-ME;object=").expect("it names one");
    let (object, after) = uri.split_once("?module-path=/usr/lib/CHANGE-ME.so'").unwrap();
    let ours = dke.dir.command();
    let mut path = program().parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut command = Command::new("sh");
    command.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", path).current_dir(dke.dir.home());
    command.arg("-euc").arg(format!("{before}'{}'{after}", uri_in(dke.hsm.folder(), object)));
    run(command, b"")
}

/// The usual configuration with the keys of an imported one.
fn with_keys_of(dke: &Dke, imported: &str) -> String {
    let usual = dke.config();
    let before = |text: &str| text.find("[[key]]").expect("it has keys");
    format!("{}\n{}", &usual[..before(&usual)], &imported[before(imported)..])
}
