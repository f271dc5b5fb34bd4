//! A real directory (OpenLDAP's slapd), with what Active Directory has of SIDs.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::leash::Leashed;
use super::service::{eventually, free_address};

pub(crate) const BASE: &str = "dc=example,dc=org";
pub(crate) const BIND_DN: &str = "cn=service,dc=example,dc=org";
pub(crate) const PASSWORD: &str = "of the directory's reader";

/// Stops when dropped.
pub(crate) struct Slapd {
    pub(crate) address: SocketAddr,
    folder: TempDir,
    running: Option<Leashed>,
}

impl Slapd {
    /// One with these entries (LDIF) below [`BASE`], over TLS with a certificate and
    /// its key in PEM. Nobody reads it but [`BIND_DN`].
    pub(crate) fn start(entries: &str, [certificate, key]: &[String; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("db")).unwrap();
        fs::write(folder.path().join("server.pem"), certificate).unwrap();
        fs::write(folder.path().join("server.key"), key).unwrap();
        fs::write(folder.path().join("slapd.conf"), configuration(folder.path())).unwrap();
        let base = format!(
            "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n"
        );
        add(folder.path(), &format!("{base}\n{entries}"));
        let mut slapd = Self { address: free_address(), folder, running: None };
        slapd.run();
        slapd
    }

    pub(crate) fn url(&self) -> String {
        format!("ldaps://{}", self.address)
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    pub(crate) fn run(&mut self) {
        let mut command = Command::new(program("slapd"));
        command.arg("-f").arg(self.folder.path().join("slapd.conf"));
        // With a level of debugging it stays in the foreground.
        command.args(["-h", &self.url(), "-d", "0"]);
        let log = self.folder.path().join("log");
        let running = self.running.insert(Leashed::start(&command, &log));
        eventually("slapd listens", || {
            assert!(!running.has_ended(), "{}", fs::read_to_string(&log).unwrap());
            thread::sleep(Duration::from_millis(20));
            TcpStream::connect(self.address).is_ok()
        });
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"include /etc/ldap/schema/core.schema
attributetype ( 1.2.840.113556.1.4.146 NAME 'objectSid' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.2.102 NAME 'memberOf' EQUALITY distinguishedNameMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )
objectclass ( 1.2.840.113556.1.5.6 NAME 'securityPrincipal' SUP top AUXILIARY
  MAY ( objectSid $ memberOf ) )
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
maxsize 10485760
suffix "{BASE}"
directory {folder}/db
rootdn "{BIND_DN}"
rootpw "{PASSWORD}"
access to * by * none
"#
    )
}

fn add(folder: &Path, entries: &str) {
    let mut slapadd = Command::new(program("slapadd"));
    slapadd.arg("-f").arg(folder.join("slapd.conf"));
    slapadd.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = slapadd.spawn().expect("slapd is installed by `scripts/test --setup`");
    child.stdin.take().unwrap().write_all(entries.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Debian's, which only root has on its `PATH`.
fn program(name: &str) -> String {
    format!("/usr/sbin/{name}")
}
