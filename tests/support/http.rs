//! Just enough HTTP/1.1 for servers on 127.0.0.1: one message at a time, with a
//! `Content-Length`.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};

/// A request or a response.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// `POST / HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub(crate) first_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn new(first_line: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            first_line: first_line.to_owned(),
            headers: headers.iter().map(owned).collect(),
            body: body.to_vec(),
        }
    }

    /// Reads one message; `None` at the end of the connection.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let first_line = line(from)?;
        if first_line.is_empty() {
            return Ok(None);
        }
        let mut message = Self { first_line, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = line(from)?;
            let Some((name, value)) = line.split_once(':') else { break };
            message.headers.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
        let len = message.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        message.body = vec![0; len];
        from.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    /// Writes it with the length of its body.
    pub(crate) fn write(&self, to: &mut impl io::Write) -> io::Result<()> {
        let mut head = format!("{}\r\n", self.first_line);
        let kept = |name: &str| !["content-length", "connection"].contains(&name);
        for (name, value) in self.headers.iter().filter(|(name, _)| kept(name)) {
            write!(head, "{name}: {value}\r\n").expect("a string takes it");
        }
        write!(head, "content-length: {}\r\n\r\n", self.body.len()).expect("a string takes it");
        to.write_all(head.as_bytes())?;
        to.write_all(&self.body)?;
        to.flush()
    }

    /// The value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn exchange(server: SocketAddr, request: &Message) -> io::Result<Message> {
    let mut connection = BufReader::new(TcpStream::connect(server)?);
    request.write(connection.get_mut())?;
    Message::read(&mut connection)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.take(1 << 16).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
