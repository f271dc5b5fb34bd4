use super::*;

fn settings(endpoint: &str, ratio: f64) -> TraceSettings {
    TraceSettings { endpoint: endpoint.to_owned(), ratio }
}

#[test]
#[cfg(not(feature = "opentelemetry"))]
fn a_program_without_traces_says_so() {
    let settings = settings("http://127.0.0.1:4318/v1/traces", 1.0);
    let error = Traces::start(&settings, "a").unwrap_err();
    assert!(error.to_string().contains("--features opentelemetry"), "{error}");
}

#[cfg(feature = "opentelemetry")]
mod with_a_collector {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::trace::v1::Span as Received;
    use prost::Message as _;
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct Record {
        key: &'static str,
        generation: u32,
        dry_run: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'static str>,
    }

    const RECORD: Record = Record { key: "k1", generation: 2, dry_run: false, error: None };

    /// Takes what is sent to it, and answers with `status`.
    fn collector(status: u16) -> (String, mpsc::Receiver<ExportTraceServiceRequest>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut length = 0;
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap() > 2 {
                    if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = text.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                let _ = sender.send(ExportTraceServiceRequest::decode(&body[..]).unwrap());
            }
        });
        (endpoint, receiver)
    }

    fn span(steps: &[(&'static str, Duration)], is_fault: bool) -> Span<'static, Record> {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let end = start + Duration::from_millis(5);
        Span { name: "Encrypt", record: &RECORD, start, end, is_fault, steps: steps.to_vec() }
    }

    fn spans(requests: &mpsc::Receiver<ExportTraceServiceRequest>) -> Vec<Received> {
        let request = requests.recv_timeout(Duration::from_secs(20)).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    fn attribute(span: &Received, name: &str) -> Option<Value> {
        let attribute = span.attributes.iter().find(|attribute| attribute.key == name)?;
        attribute.value.clone()?.value
    }

    #[test]
    fn a_span_says_what_the_record_says_and_where_the_time_went() {
        let (endpoint, received) = collector(200);
        let traces = Traces::start(&settings(&endpoint, 1.0), "twinlock-test").unwrap();
        let steps = [("queue", Duration::from_millis(1)), ("hsm", Duration::from_millis(2))];
        traces.send(&span(&steps, false));
        traces.close(Duration::from_secs(20));

        let spans = spans(&received);
        let of = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
        let (whole, queue, hsm) = (of("Encrypt"), of("queue"), of("hsm"));
        assert_eq!(attribute(whole, "key"), Some(Value::StringValue("k1".into())));
        assert_eq!(attribute(whole, "generation"), Some(Value::IntValue(2)));
        assert_eq!(attribute(whole, "dry_run"), Some(Value::BoolValue(false)));
        assert_eq!(attribute(whole, "error"), None);
        let start = 1_000_000_000_000_000_000;
        let times = |span: &Received| {
            let since = |time| (time - start) / 1_000_000;
            (since(span.start_time_unix_nano), since(span.end_time_unix_nano))
        };
        assert_eq!((times(whole), times(queue), times(hsm)), ((0, 5), (2, 3), (3, 5)));
        for step in [queue, hsm] {
            assert_eq!(step.trace_id, whole.trace_id);
            assert_eq!(step.parent_span_id, whole.span_id);
        }
        assert!(whole.status.as_ref().is_none_or(|status| status.code == 0));
    }

    #[test]
    fn a_fault_of_the_service_is_an_error() {
        let (endpoint, received) = collector(200);
        let traces = Traces::start(&settings(&endpoint, 1.0), "twinlock-test").unwrap();
        traces.send(&span(&[], true));
        traces.close(Duration::from_secs(20));
        assert_eq!(spans(&received)[0].status.as_ref().unwrap().code, 2);
    }

    #[test]
    fn no_request_has_a_span_if_none_is_wanted() {
        let (endpoint, received) = collector(200);
        let traces = Traces::start(&settings(&endpoint, 0.0), "twinlock-test").unwrap();
        traces.send(&span(&[("hsm", Duration::from_millis(1))], false));
        traces.close(Duration::from_secs(20));
        assert!(received.try_recv().is_err());
    }

    #[test]
    fn a_collector_that_is_away_or_refuses_costs_only_the_spans() {
        let unbound = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (refusing, received) = collector(400);
        for endpoint in [format!("http://{unbound}/v1/traces"), refusing] {
            let traces = Traces::start(&settings(&endpoint, 1.0), "twinlock-test").unwrap();
            (0..10_000).for_each(|_| traces.send(&span(&[], false)));
            traces.close(Duration::from_secs(20));
        }
        assert!(received.try_iter().count() > 0, "it was asked");
    }

    #[test]
    fn settings_that_cannot_be_used_are_refused() {
        for (endpoint, ratio, says) in [
            ("https://collector/v1/traces", 1.0, "http://"),
            ("collector:4318", 1.0, "http://"),
            ("http://127.0.0.1:4318", 1.5, "from 0 to 1"),
            ("http://127.0.0.1:4318", f64::NAN, "from 0 to 1"),
            ("http://", 1.0, "traces"),
        ] {
            let error = Traces::start(&settings(endpoint, ratio), "a").unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
