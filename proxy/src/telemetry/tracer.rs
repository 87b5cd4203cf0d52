//! Which calls are traced, and what the next hop is told of it.
//!
//! Parent-based: who calls decides; only a call that brings no context is drawn for. A proxy that
//! does not trace passes `traceparent` and `tracestate` on as they came. A proxy that does puts
//! its own span in between, and passes nothing on that it could not read.

use std::sync::Arc;

use crypto::random::{Random, SystemRandom};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::metrics::SpanCounts;
use crate::config::Tracing;
use crate::record::{CallRecord, TraceLink};
use crate::trace_context::{SpanId, TraceContext, TraceId, TraceState};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bits of a trace-id that its sampling is drawn from (the 56 that level 2 calls random).
const RANDOM_BITS: u32 = 56;

/// Draws, and hands spans to their exporter. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Tracer {
    spans: Option<Spans>,
}

#[derive(Clone, Debug)]
struct Spans {
    /// Trace ids whose random part is below it are sampled.
    threshold: u64,
    sender: Sender<Arc<CallRecord>>,
    counts: SpanCounts,
}

/// What a call has to do with a trace.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    link: Option<TraceLink>,
    outgoing: Outgoing,
}

/// What becomes of the two fields on their way on.
#[derive(Debug, Default)]
enum Outgoing {
    #[default]
    Untouched,
    Removed,
    Set(HeaderValue, Option<HeaderValue>),
}

impl Tracer {
    /// One that traces nothing.
    pub(super) fn off() -> Self {
        Self { spans: None }
    }

    /// One that traces, and where the spans come out.
    pub(super) fn on(config: &Tracing, counts: SpanCounts) -> (Self, Receiver<Arc<CallRecord>>) {
        let (sender, spans) = mpsc::channel(config.queue);
        let all = (1_u64 << RANDOM_BITS) as f64;
        let tracer = Self {
            spans: Some(Spans {
                threshold: (config.ratio * all) as u64,
                sender,
                counts,
            }),
        };
        (tracer, spans)
    }

    /// Reads what a request brings. `is_observed` asks for the trace's name even if nothing is
    /// traced here.
    pub(super) fn arrive(&self, fields: &HeaderMap, is_observed: bool) -> Trace {
        match &self.spans {
            Some(spans) => spans.arrive(fields, &mut SystemRandom),
            None if is_observed => Trace::seen(context(fields)),
            None => Trace::default(),
        }
    }

    /// Hands a span over, unless its exporter is too far behind.
    pub(super) fn export(&self, record: &Arc<CallRecord>) {
        if let Some(spans) = &self.spans
            && spans.sender.try_send(Arc::clone(record)).is_err()
        {
            spans.counts.dropped(1);
        }
    }
}

impl Spans {
    fn arrive(&self, fields: &HeaderMap, random: &mut dyn Random) -> Trace {
        let found = context(fields);
        let received = fields.contains_key(TRACEPARENT);
        match found {
            Some(context) if context.is_sampled() => {
                let values = fields.get_all(TRACESTATE);
                let state = TraceState::parse(values.iter().map(HeaderValue::as_bytes));
                let span = span_id(random);
                Trace::recorded(context, Some(context.parent), span, state.ok().flatten())
            }
            Some(context) => Trace::seen(Some(context)),
            None if self.threshold == 0 && received => Trace::unreadable(),
            None if self.threshold == 0 => Trace::default(),
            None => self.draw(random),
        }
    }

    fn draw(&self, random: &mut dyn Random) -> Trace {
        let trace = trace_id(random);
        let mut drawn = [0; 8];
        drawn[1..].copy_from_slice(&trace.bytes()[9..]);
        let is_sampled = u64::from_be_bytes(drawn) < self.threshold;
        let span = span_id(random);
        let context = TraceContext::root(trace, span, is_sampled);
        if is_sampled {
            return Trace::recorded(context, None, span, None);
        }
        Trace {
            link: None,
            // The next hop is to know that the draw was lost, and not to draw again.
            outgoing: Outgoing::set(context, None),
        }
    }
}

impl Trace {
    /// Whether a span of it is exported.
    pub(crate) fn is_recorded(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.span.is_some())
    }

    pub(crate) fn take_link(&mut self) -> Option<TraceLink> {
        self.link.take()
    }

    /// Sets or removes the two fields of a request that goes on.
    pub(crate) fn lead(&self, fields: &mut HeaderMap) {
        match &self.outgoing {
            Outgoing::Untouched => {}
            Outgoing::Removed => {
                fields.remove(TRACEPARENT);
                fields.remove(TRACESTATE);
            }
            Outgoing::Set(parent, state) => {
                fields.insert(TRACEPARENT, parent.clone());
                match state {
                    Some(state) => drop(fields.insert(TRACESTATE, state.clone())),
                    None => drop(fields.remove(TRACESTATE)),
                }
            }
        }
    }

    fn seen(context: Option<TraceContext>) -> Self {
        let link = context.map(|context| TraceLink {
            trace: context.trace,
            span: None,
            parent: Some(context.parent),
            flags: context.flags(),
            state: None,
        });
        Self {
            link,
            outgoing: Outgoing::Untouched,
        }
    }

    fn unreadable() -> Self {
        Self {
            link: None,
            outgoing: Outgoing::Removed,
        }
    }

    fn recorded(
        context: TraceContext,
        parent: Option<SpanId>,
        span: SpanId,
        state: Option<TraceState>,
    ) -> Self {
        let outgoing = Outgoing::set(context.through(span), state.as_ref());
        let link = TraceLink {
            trace: context.trace,
            span: Some(span),
            parent,
            flags: context.flags(),
            state,
        };
        Self {
            link: Some(link),
            outgoing,
        }
    }
}

impl Outgoing {
    fn set(context: TraceContext, state: Option<&TraceState>) -> Self {
        let state = state.and_then(|it| HeaderValue::from_str(it.as_str()).ok());
        match HeaderValue::from_str(&context.to_string()) {
            Ok(parent) => Self::Set(parent, state),
            Err(_) => Self::Removed,
        }
    }
}

/// The one readable `traceparent`; two are none (section 3.2).
fn context(fields: &HeaderMap) -> Option<TraceContext> {
    let mut values = fields.get_all(TRACEPARENT).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    TraceContext::parse(value.as_bytes()).ok()
}

fn trace_id(random: &mut dyn Random) -> TraceId {
    loop {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        if let Some(id) = TraceId::new(bytes) {
            return id;
        }
    }
}

fn span_id(random: &mut dyn Random) -> SpanId {
    loop {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        if let Some(id) = SpanId::new(bytes) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn tracer(ratio: f64) -> Tracer {
        let config = Tracing {
            ratio,
            ..Tracing::to("http://127.0.0.1:4317")
        };
        Tracer::on(&config, SpanCounts::default()).0
    }

    fn fields(values: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        values.iter().map(pair).collect()
    }

    /// The fields as the next hop gets them.
    fn after(tracer: &Tracer, mut fields: HeaderMap) -> (Trace, HeaderMap) {
        let trace = tracer.arrive(&fields, false);
        trace.lead(&mut fields);
        (trace, fields)
    }

    #[test]
    fn what_cannot_be_read_is_not_passed_on() {
        for invalid in [
            fields(&[("traceparent", "00-zz"), ("tracestate", "a=1")]),
            fields(&[("traceparent", SAMPLED), ("traceparent", SAMPLED)]),
        ] {
            let (trace, after) = after(&tracer(0.0), invalid);
            assert!(!trace.is_recorded() && after.is_empty(), "{after:?}");
        }
    }

    #[test]
    fn who_does_not_trace_changes_nothing() {
        let before = fields(&[("traceparent", "00-zz"), ("tracestate", "nonsense")]);
        let (_, after) = after(&Tracer::off(), before.clone());
        assert_eq!(after, before);
    }

    #[test]
    fn a_caller_that_does_not_sample_is_followed_in_it() {
        let before = fields(&[("traceparent", UNSAMPLED)]);
        let (trace, after) = after(&tracer(1.0), before.clone());
        assert_eq!((trace.is_recorded(), after), (false, before));
    }

    #[test]
    fn a_call_without_a_context_starts_no_trace_unless_configured() {
        let (trace, after) = after(&tracer(0.0), HeaderMap::new());
        assert!(!trace.is_recorded() && after.is_empty());
    }

    #[test]
    fn a_sampled_caller_gets_a_span_between() {
        let (mut trace, after) = after(
            &tracer(0.0),
            fields(&[
                ("traceparent", SAMPLED),
                ("tracestate", "a=1"),
                ("tracestate", "b=2"),
            ]),
        );
        let link = trace.take_link().unwrap();
        assert_eq!(link.parent.unwrap().to_string(), "00f067aa0ba902b7");
        let sent = context(&after).unwrap();
        assert_eq!((sent.trace, Some(sent.parent)), (link.trace, link.span));
        assert_ne!(Some(sent.parent), link.parent);
        assert_eq!(after["tracestate"], "a=1,b=2");
    }

    #[test]
    fn a_drawn_call_starts_a_sampled_trace_and_one_that_was_not_says_so() {
        let (trace, sent) = after(&tracer(1.0), HeaderMap::new());
        assert!(trace.is_recorded() && context(&sent).unwrap().is_sampled());
        let (trace, sent) = after(&tracer(1e-12), HeaderMap::new());
        assert!(!trace.is_recorded() && !context(&sent).unwrap().is_sampled());
    }

    #[test]
    fn a_full_queue_drops_spans_and_counts_them() {
        let config = Tracing {
            queue: 1,
            ..Tracing::to("http://127.0.0.1:4317")
        };
        let counts = SpanCounts::default();
        let (tracer, _spans) = Tracer::on(&config, counts.clone());
        let record = Arc::new(crate::record::tests::record());
        tracer.export(&record);
        tracer.export(&record);
        assert_eq!(counts.count_dropped(), 1);
    }
}
