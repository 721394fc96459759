//! The query of an admin request: `name=value&..`, percent-encoded. Pure.

use std::borrow::Cow;

/// Names and values, decoded.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// What has no `=` is left out.
    pub(crate) fn parse(query: &'a str) -> Self {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name, decode(value))).collect())
    }

    /// The first value of a name that is not empty.
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a name that are not empty.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, value)| *key == name && !value.is_empty()).map(|(_, value)| &**value)
    }
}

/// `value` as part of a query.
pub(crate) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn decode(value: &str) -> Cow<'_, str> {
    if !value.contains('%') {
        return value.into();
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_found_by_name() {
        let query = Query::parse("a=1&b=&a=2&c&d=x%2Fy%zz%4");
        assert_eq!(query.find("a"), Some("1"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((query.find("b"), query.find("c")), (None, None));
        assert_eq!(query.find("d"), Some("x/y%zz%4"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_found(value in ".+") {
            let encoded = encode(&value);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            let text = format!("x={encoded}&y=1");
            let query = Query::parse(&text);
            prop_assert_eq!(query.find("x"), Some(&*value));
        }
    }
}
