//! W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context/>): reads, makes and writes `traceparent`. Pure: chance is
//! an argument.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that says of which trace a request is a part.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add; it means nothing without a valid `traceparent`.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span; never 0.
    pub span_id: u64,
    /// Whoever called has decided that this trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// The caller's place, where there is exactly one `traceparent` and it is valid.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        match (all.next(), all.next()) {
            (Some(one), None) => Self::parse(one.as_bytes()),
            _ => None,
        }
    }

    /// Reads `version-trace-parent-flags`. Versions above 00 may be longer, as section 4.3 asks.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let version = hexadecimal(text.get(..2)?)?;
        let separators = [text.get(2)?, text.get(35)?, text.get(52)?];
        let ends = match text.get(55) {
            None => true,
            Some(more) => version > 0 && *more == b'-',
        };
        if version == 0xff || separators != [&b'-'; 3] || !ends {
            return None;
        }
        let trace_id = hexadecimal(text.get(3..35)?)?;
        let span_id = u64::try_from(hexadecimal(text.get(36..52)?)?).ok()?;
        let flags = hexadecimal(text.get(53..55)?)?;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The beginning of a trace.
    #[must_use]
    pub fn root(sampled: bool, random: &mut impl FnMut() -> u64) -> Self {
        let trace_id = u128::from(random()) << 64 | u128::from(random());
        Self { trace_id: trace_id.max(1), span_id: random().max(1), sampled }
    }

    /// A new span below this one.
    #[must_use]
    pub fn child(&self, random: &mut impl FnMut() -> u64) -> Self {
        Self { span_id: random().max(1), ..*self }
    }

    /// As the value of `traceparent`, 55 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let parts =
            [(3, 32, self.trace_id), (36, 16, u128::from(self.span_id)), (53, 2, u128::from(self.sampled))];
        for (start, length, value) in parts {
            write_hexadecimal(text.get_mut(start..start + length).unwrap_or_default(), value);
        }
        text
    }

    /// Puts it in the place of whatever `traceparent` there is.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&self.encode()) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

/// The span of one request through the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTrace {
    /// What the called side sees as its parent.
    pub own: TraceContext,
    /// The caller's span; none where the trace begins here.
    pub parent: Option<u64>,
    /// Whether the agent has a span of its own in the trace, which is to be exported.
    pub recorded: bool,
}

impl RequestTrace {
    /// Keeps the request's context, makes one where there is none, and leaves in `headers` what goes on. `records` says whether
    /// spans are exported at all, `share` of 2^64 which of the traces that begin here are. A context of which no span of ours will be
    /// recorded goes on as it is, so that no tree of spans has a hole; one that is made then counts as sampled, so
    /// that the application's own decision stays what it is without us.
    pub fn prepare(
        headers: &mut HeaderMap,
        records: bool,
        share: u64,
        random: &mut impl FnMut() -> u64,
    ) -> Self {
        if let Some(caller) = TraceContext::of(headers) {
            if !(records && caller.sampled) {
                return Self { own: caller, parent: None, recorded: false };
            }
            let own = caller.child(random);
            own.write(headers);
            return Self { own, parent: Some(caller.span_id), recorded: true };
        }
        // Section 3.3: without a valid traceparent the tracestate means nothing.
        headers.remove(TRACESTATE);
        let recorded = records && share != 0 && random() <= share;
        let own = TraceContext::root(recorded || !records, random);
        own.write(headers);
        Self { own, parent: None, recorded }
    }
}

/// Lower-case digits only, as the specification asks; at most 32.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Fills `place` from the right.
pub(in crate::observe) fn write_hexadecimal(place: &mut [u8], mut value: u128) {
    for digit in place.iter_mut().rev() {
        let low = (value & 0xf) as u8;
        *digit = if low < 10 { b'0' + low } else { b'a' + low - 10 };
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn counter() -> impl FnMut() -> u64 {
        let mut next = 0;
        move || {
            next += 1;
            next
        }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        headers
    }

    #[test]
    fn the_examples_of_the_specification() {
        let context = TraceContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((context.span_id, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.encode(), GOOD.as_bytes());
        let cases = [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some(false)),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", Some(true)),
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", Some(true)),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(true)),
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", None),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01", None),
            ("", None),
        ];
        for (text, sampled) in cases {
            assert_eq!(TraceContext::parse(text.as_bytes()).map(|one| one.sampled), sampled, "{text}");
        }
    }

    #[test]
    fn a_context_is_kept_continued_or_made() {
        let no = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        // (what came, spans are exported, new traces are sampled) -> (untouched, recorded, sampled)
        type Case<'a> = (&'a [&'a str], bool, bool, bool, bool, bool);
        let table: [Case<'_>; 8] = [
            (&[GOOD], false, true, true, false, true),
            (&[GOOD], true, false, false, true, true),
            (&[no], true, true, true, false, false),
            (&[], false, false, false, false, true),
            (&[], true, false, false, false, false),
            (&[], true, true, false, true, true),
            (&["garbage"], true, true, false, true, true),
            (&[GOOD, GOOD], true, true, false, true, true),
        ];
        for (came, records, sample, untouched, recorded, sampled) in table {
            let mut map = headers(came);
            let before = map.clone();
            let share = if sample { u64::MAX } else { 0 };
            let trace = RequestTrace::prepare(&mut map, records, share, &mut counter());
            assert_eq!(map == before, untouched, "{came:?} {records} {sample}");
            assert_eq!(
                (trace.recorded, trace.own.sampled),
                (recorded, sampled),
                "{came:?} {records} {sample}"
            );
            assert_eq!(TraceContext::of(&map), Some(trace.own));
            let kept = came == [GOOD] || came == [no];
            assert_eq!(map.contains_key(TRACESTATE), kept);
            assert_eq!(trace.parent, (kept && recorded).then_some(0x00f0_67aa_0ba9_02b7));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace_id in 1_u128.., span_id in 1_u64.., sampled: bool) {
            let context = TraceContext { trace_id, span_id, sampled };
            prop_assert_eq!(TraceContext::parse(&context.encode()), Some(context));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(context) = TraceContext::parse(&bytes) {
                prop_assert!(bytes.starts_with(&context.encode()[3..35]) || bytes.len() >= 55);
            }
        }
    }
}
