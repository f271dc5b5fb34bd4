//! Spans as OpenTelemetry's crates make and send them.

use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use serde::Serialize;

use super::{Span, TraceError, TraceSettings};

/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// Spans of a service's requests. Clones share the queue; what is in it is sent
/// by [`Traces::close`].
#[derive(Clone, Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Starts the thread that sends them, in the name of `service`.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn start(settings: &TraceSettings, service: &'static str) -> Result<Self, TraceError> {
        settings.check()?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&settings.endpoint)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| TraceError::NotStarted(error.to_string()))?;
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder().with_service_name(service).build())
            .with_sampler(Sampler::TraceIdRatioBased(settings.ratio))
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer(service);
        Ok(Self { provider, tracer })
    }

    /// Has a request's span sent, if it is one of those that have one.
    pub fn send(&self, span: &Span<'_, impl Serialize>) {
        let mut whole = self
            .tracer
            .span_builder(span.name)
            .with_kind(SpanKind::Server)
            .with_start_time(span.start)
            .start_with_context(&self.tracer, &Context::new());
        if !whole.is_recording() {
            return;
        }
        whole.set_attributes(attributes(span.record));
        if span.is_fault {
            whole.set_status(Status::error("")); // the attribute `error` says which
        }
        let parent = Context::new().with_remote_span_context(whole.span_context().clone());
        self.send_steps(span, &parent);
        whole.end_with_timestamp(span.end);
    }

    /// The steps end one after another, the last one with the request.
    fn send_steps(&self, span: &Span<'_, impl Serialize>, parent: &Context) {
        let mut end = span.end;
        for &(name, duration) in span.steps.iter().rev() {
            let start = end - duration;
            let step = self.tracer.span_builder(name).with_start_time(start);
            step.start_with_context(&self.tracer, parent).end_with_timestamp(end);
            end = start;
        }
    }

    /// Sends what is queued, for as long as `patience` at most, and no more
    /// spans after that.
    pub fn close(&self, patience: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(patience) {
            tracing::warn!(%error, "some spans were not sent");
        }
    }
}

/// The fields of a record. One that is neither text, number nor truth becomes JSON.
fn attributes(record: &impl Serialize) -> Vec<KeyValue> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(record) else {
        return Vec::new(); // its log says so
    };
    fields.into_iter().map(|(name, value)| KeyValue::new(name, attribute(value))).collect()
}

fn attribute(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Bool(value) => value.into(),
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.to_string().into(),
        },
        other => other.to_string().into(),
    }
}
