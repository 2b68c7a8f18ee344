//! The receivers of a message: `target_user_id`, compared with the `id` of a token.
//!
//! Both are brought to one spelling, so that the comparison is one of bytes: an integer without
//! point and exponent, however it was written, or a string in quotes.

use crate::json::{self, RawValue, quoted};
use serde_json::Value;
use std::borrow::Cow;

/// Digits of the longest integer that an id can be.
const DIGITS_MAX: usize = 20;

/// The receivers of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MessageTarget<'a> {
    /// The whole channel.
    Everyone,
    /// A value that no user's id can have.
    Nobody,
    /// The user with this id, in its spelling.
    User(Cow<'a, str>),
}

impl<'a> MessageTarget<'a> {
    /// Reads the value of the key, or its absence.
    pub(super) fn read(value: Option<&'a RawValue>) -> Self {
        let Some(value) = value else { return Self::Everyone };
        // Falsy values of the reference's JavaScript mean no target.
        match value.get() {
            "null" | "false" | "\"\"" => Self::Everyone,
            text if text.starts_with('"') => {
                json::text(value).map_or(Self::Nobody, |text| Self::User(Cow::Owned(quoted(&text))))
            }
            number if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                match integer(number).as_deref() {
                    None => Self::Nobody,
                    Some("0") => Self::Everyone,
                    Some(integer) => Self::User(Cow::Owned(integer.into())),
                }
            }
            // Objects, arrays and true equal no id.
            _ => Self::Nobody,
        }
    }

    /// The bytes that a publication carries for [`is_for`].
    pub(super) fn as_meta(&self) -> &[u8] {
        match self {
            Self::Everyone => b"",
            Self::Nobody => b"\0",
            Self::User(id) => id.as_bytes(),
        }
    }
}

/// Whether a publication that carries this is for the user with this id; empty when the user has
/// none.
pub(super) fn is_for(meta: &[u8], id: &str) -> bool {
    meta.is_empty() || meta == id.as_bytes()
}

/// The spelling of a token's `id`; `None` when it is neither an integer nor a string.
pub(super) fn id(claim: &Value) -> Option<String> {
    match claim {
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::String(text) => Some(quoted(text)),
        _ => None,
    }
}

/// A JSON number as an integer without point and exponent; `None` when it has a fraction, or is
/// longer than any id. No floating point is used: 9007199254740993 and 9007199254740992 are two
/// users.
fn integer(number: &str) -> Option<String> {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |number| ("-", number));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));

    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    // All forms of zero, "-0" and "0e5" among them, mean no target.
    if significant.is_empty() {
        return Some("0".into());
    }

    let zeros_before = digits.len() - digits.trim_start_matches('0').len();
    // The position of the point, counted from the first significant digit.
    let exponent: i64 = exponent.parse().ok()?;
    let point = (whole.len() as i64 - zeros_before as i64).checked_add(exponent)?;
    let point = usize::try_from(point).ok().filter(|point| *point <= DIGITS_MAX)?;
    (significant.len() <= point).then(|| format!("{sign}{significant:0<point$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(json: &str) -> MessageTarget<'_> {
        MessageTarget::read(Some(serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn what_is_false_in_the_original_is_for_everyone() {
        assert_eq!(MessageTarget::read(None), MessageTarget::Everyone);
        for json in ["null", "false", "0", "\"\"", "0.0", "-0", "-0.0", "0e5", "0E-5", "0.000e999"]
        {
            assert_eq!(target(json), MessageTarget::Everyone, "{json}");
        }
    }

    #[test]
    fn a_number_is_an_integer_however_it_is_written() {
        for (json, integer) in [
            ("2", "2"),
            ("2.0", "2"),
            ("2e0", "2"),
            ("20e-1", "2"),
            ("0.2e1", "2"),
            ("0.02E+2", "2"),
            ("200", "200"),
            ("2e2", "200"),
            ("-7", "-7"),
            ("-7.00", "-7"),
            ("9007199254740993", "9007199254740993"),
            ("18446744073709551615", "18446744073709551615"),
            ("1e19", "10000000000000000000"),
        ] {
            assert_eq!(target(json), MessageTarget::User(integer.into()), "{json}");
            assert!(is_for(
                target(json).as_meta(),
                &id(&serde_json::from_str(integer).unwrap()).unwrap()
            ));
        }
    }

    #[test]
    fn what_no_id_can_be_is_for_nobody() {
        for json in [
            "true",
            "[]",
            "{}",
            "[2]",
            "2.5",
            "1e20",
            "1e400",
            "1e99999999999999999999",
            "1e-1",
            "123456789012345678901",
        ] {
            assert_eq!(target(json), MessageTarget::Nobody, "{json}");
            assert!(!is_for(target(json).as_meta(), ""), "{json}");
        }
    }

    #[test]
    fn a_string_is_another_user_than_a_number() {
        let (number, text) = (id(&2.into()).unwrap(), id(&"2".into()).unwrap());
        assert!(is_for(target("2").as_meta(), &number) && !is_for(target("2").as_meta(), &text));
        assert!(
            is_for(target("\"2\"").as_meta(), &text) && !is_for(target("\"2\"").as_meta(), &number)
        );
        assert!(is_for(target(r#""\u0032""#).as_meta(), &text));
        assert_eq!(target(r#""\ud800""#), MessageTarget::Nobody);
        assert_eq!(target("\"null\"").as_meta(), b"\"null\"");
    }

    #[test]
    fn an_id_is_an_integer_or_a_string() {
        for json in ["1.5", "2.0", "1e2", "null", "true", "[1]", "{}", "18446744073709551616"] {
            assert_eq!(id(&serde_json::from_str(json).unwrap()), None, "{json}");
        }
        assert_eq!(id(&(-3).into()).as_deref(), Some("-3"));
        assert_eq!(id(&"a\"é".into()).as_deref(), Some("\"a\\\"é\""));
    }
}
