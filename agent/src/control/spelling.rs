//! Names that are a slip of the pen away from one that is known. Pure.

/// The one of `known` that was meant: another case, or one letter too many, too few, wrong or in its neighbour's place.
pub fn meant<'known>(written: &str, mut known: impl Iterator<Item = &'known str>) -> Option<&'known str> {
    let small = written.to_lowercase();
    known.find(|known| *known != written && is_near(&small, &known.to_lowercase()))
}

/// Whether the optimal string alignment distance is at most 1.
fn is_near(one: &str, two: &str) -> bool {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    let ahead = one.iter().zip(&two).take_while(|(a, b)| a == b).count();
    let (one, two) = (one.get(ahead..).unwrap_or_default(), two.get(ahead..).unwrap_or_default());
    match (one, two) {
        ([], []) => true,
        ([_, rest @ ..], two) if rest == two => true,
        (one, [_, rest @ ..]) if one == rest => true,
        ([_, one @ ..], [_, two @ ..]) if one == two => true,
        ([a, b, one @ ..], [c, d, two @ ..]) => (a, b) == (d, c) && one == two,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_kinds_are_not() {
        let known = ["Pod", "Service", "HTTPRoute", "GRPCRoute", "TrafficPolicy"];
        for (written, expected) in [
            ("HTTPRuote", Some("HTTPRoute")),
            ("HttpRoute", Some("HTTPRoute")),
            ("HTTPRoutes", Some("HTTPRoute")),
            ("TraficPolicy", Some("TrafficPolicy")),
            ("Servise", Some("Service")),
            ("TCPRoute", None),
            ("TLSRoute", None),
            ("NetworkPolicy", None),
            ("Node", None),
            ("Job", None),
            ("", None),
        ] {
            assert_eq!(meant(written, known.into_iter()), expected, "{written}");
        }
    }
}
