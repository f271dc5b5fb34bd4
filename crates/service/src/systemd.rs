//! Telling systemd how the service is (sd_notify(3), `Type=notify-reload`).
//!
//! Without `NOTIFY_SOCKET` nobody asked, and nothing happens.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service is up, or up again after a reload.
pub fn ready() {
    send("READY=1");
}

/// The service reads its configuration again; [`ready`] follows, whatever came
/// of it.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The service is shutting down.
pub fn stopping() {
    send("STOPPING=1");
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    send(&format!("STATUS={}", line.replace(['\n', '\r'], " ")));
}

/// Says that the service lives, as often as `WatchdogSec=` needs it. Runs until
/// it is dropped, and ends at once where no watchdog watches this process.
pub async fn keep_watchdog_calm() {
    let Some(within) = watchdog(|name| std::env::var(name).ok()) else { return };
    let mut tick = tokio::time::interval(within / 2);
    loop {
        tick.tick().await;
        send("WATCHDOG=1");
    }
}

fn watchdog(variable: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let pid = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (pid && micros >= 2).then(|| Duration::from_micros(micros))
}

fn send(message: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send_to(&socket, message) {
        tracing::warn!(%error, "systemd could not be told: {message}");
    }
}

fn send_to(socket: &OsStr, message: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    // Not to hang with systemd.
    sender.set_write_timeout(Some(Duration::from_secs(1)))?;
    sender.send_to_addr(message.as_bytes(), &address(socket)?).map(drop)
}

/// `@name` is in Linux's abstract namespace.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        None => SocketAddr::from_pathname(socket),
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(name)
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let len = receiver.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn sockets_with_paths_and_abstract_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        send_to(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(received(&receiver), "READY=1");

        let name = format!("@twinlock-test-{}", std::process::id());
        let receiver = UnixDatagram::bind_addr(&address(name.as_ref()).unwrap()).unwrap();
        send_to(name.as_ref(), "STOPPING=1").unwrap();
        assert_eq!(received(&receiver), "STOPPING=1");
    }

    #[test]
    fn a_socket_that_is_gone_is_an_error_and_no_panic() {
        assert!(send_to(OsStr::new("/nonexistent/notify"), "READY=1").is_err());
        assert!(send_to(OsStr::new(&"x".repeat(200)), "READY=1").is_err());
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let own = std::process::id().to_string();
        let seconds = Some(Duration::from_secs(30));
        for (pid, micros, expected) in [
            (Some(own.as_str()), Some("30000000"), seconds),
            (None, Some("30000000"), seconds),
            (Some("1"), Some("30000000"), None),
            (None, Some("0"), None),
            (None, Some("soon"), None),
            (None, None, None),
        ] {
            let variable = |name: &str| match name {
                "WATCHDOG_PID" => pid.map(str::to_owned),
                "WATCHDOG_USEC" => micros.map(str::to_owned),
                _ => None,
            };
            assert_eq!(watchdog(variable), expected, "{pid:?} {micros:?}");
        }
    }
}
