use proptest::prelude::*;

use super::*;

const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[track_caller]
fn refused(value: &str, expected: InvalidTraceParent) {
    assert_eq!(
        TraceContext::parse(value.as_bytes()),
        Err(expected),
        "{value}"
    );
}

fn state(fields: &[&str]) -> Result<Option<String>, InvalidTraceState> {
    let parsed = TraceState::parse(fields.iter().map(|field| field.as_bytes()));
    parsed.map(|state| state.map(|state| state.as_str().to_owned()))
}

#[test]
fn a_traceparent_of_another_length_is_refused() {
    refused("", InvalidTraceParent::Length);
    refused(&VALID[..54], InvalidTraceParent::Length);
    refused(&format!("{VALID}-00"), InvalidTraceParent::Length);
    refused(&format!("{VALID} "), InvalidTraceParent::Length);
}

#[test]
fn zeros_and_the_forbidden_version_are_refused() {
    refused(
        &VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        InvalidTraceParent::ZeroTrace,
    );
    refused(
        &VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
        InvalidTraceParent::ZeroParent,
    );
    refused(&VALID.replacen("00", "ff", 1), InvalidTraceParent::Version);
}

#[test]
fn upper_case_digits_are_refused() {
    refused(&VALID.to_uppercase(), InvalidTraceParent::Digits);
    refused(&VALID.replace("-01", "-0g"), InvalidTraceParent::Digits);
}

#[test]
fn a_later_version_is_read_by_its_first_four_parts_only() {
    let later = VALID.replacen("00", "01", 1);
    let read = |text: &str| TraceContext::parse(text.as_bytes());
    assert!(read(&format!("{later}-more")).unwrap().is_sampled());
    assert_eq!(
        read(&format!("{later}more")),
        Err(InvalidTraceParent::Hyphens)
    );
}

#[test]
fn unknown_flags_are_not_sent_on() {
    let context = TraceContext::parse(VALID.replace("-01", "-fd").as_bytes()).unwrap();
    assert!(context.to_string().ends_with("-01"), "{context}");
}

#[test]
fn a_tracestate_that_breaks_a_rule_is_dropped_whole() {
    assert_eq!(state(&["a=1,b"]), Err(InvalidTraceState::Value));
    assert_eq!(state(&["A=1"]), Err(InvalidTraceState::Key));
    assert_eq!(state(&["=1"]), Err(InvalidTraceState::Key));
    assert_eq!(state(&["a=1=2"]), Err(InvalidTraceState::Value));
    assert_eq!(state(&["a=1", "b=2,a=3"]), Err(InvalidTraceState::Twice));
    let many: Vec<String> = (0..33).map(|at| format!("k{at}=v")).collect();
    assert_eq!(state(&[&many.join(",")]), Err(InvalidTraceState::TooMany));
}

#[test]
fn members_of_several_fields_are_one_list() {
    assert_eq!(
        state(&["a=1 , ,b=2\t", "c=x y"]),
        Ok(Some("a=1,b=2,c=x y".to_owned()))
    );
    assert_eq!(state(&["", " , "]), Ok(None));
}

#[test]
fn what_is_too_long_loses_large_members_first_and_then_the_last() {
    let large = format!("large={}", "x".repeat(200));
    let small: Vec<String> = (0..30)
        .map(|at| format!("k{at:02}={}", "v".repeat(14)))
        .collect();
    let kept = state(&[&format!("{large},{}", small.join(","))])
        .unwrap()
        .unwrap();
    assert!(kept.len() <= MOST_CHARACTERS && !kept.contains("large") && kept.starts_with("k00="));
    assert!(!kept.contains("k29="), "{kept}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        drop(TraceState::parse([bytes.as_slice()]));
        if let Ok(context) = TraceContext::parse(&bytes) {
            prop_assert_eq!(TraceContext::parse(context.to_string().as_bytes()), Ok(context));
        }
    }

    #[test]
    fn a_context_comes_back_from_its_text(
        trace in any::<[u8; 16]>(),
        parent in any::<[u8; 8]>(),
        sampled: bool,
    ) {
        let (Some(trace), Some(parent)) = (TraceId::new(trace), SpanId::new(parent)) else {
            return Ok(());
        };
        let context = TraceContext::root(trace, parent, sampled);
        prop_assert_eq!(TraceContext::parse(context.to_string().as_bytes()), Ok(context));
    }

    #[test]
    fn what_is_kept_of_a_state_is_kept_again(text in "[a-c,=_ 0-9@]{0,700}") {
        if let Ok(Some(kept)) = TraceState::parse([text.as_bytes()]) {
            prop_assert!(kept.as_str().len() <= MOST_CHARACTERS);
            prop_assert_eq!(TraceState::parse([kept.as_str().as_bytes()]), Ok(Some(kept)));
        }
    }
}
