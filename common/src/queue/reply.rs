//! Reads a script's reply: a list whose first element is a code. What is not understood is an error, never a default.

use redis::Value;

use super::QueueError;
use crate::excerpt::excerpt;

/// Stands where bytes are no text. Nothing that is read accepts it: it is no number, name or JSON.
const NO_TEXT: &str = "\u{fffd}";

/// A reply of one script.
#[derive(Debug)]
pub(super) struct Reply {
    script: &'static str,
    values: Vec<Value>,
}

impl Reply {
    pub(super) const fn new(script: &'static str, values: Vec<Value>) -> Self {
        Self { script, values }
    }

    /// The code in front.
    pub(super) fn code(&self) -> &str {
        self.values.first().and_then(text_of).unwrap_or("")
    }

    /// The element at a position, as text.
    pub(super) fn text(&self, at: usize) -> Result<&str, QueueError> {
        self.values.get(at).and_then(text_of).ok_or_else(|| self.unknown())
    }

    /// The element at a position, as a number from 0.
    pub(super) fn number(&self, at: usize) -> Result<u64, QueueError> {
        self.values.get(at).and_then(number_of).ok_or_else(|| self.unknown())
    }

    /// The elements from a position on, each as a list of texts. A text that is not UTF-8 is [`NO_TEXT`]: one of a stranger must not take
    /// the rest of the answer with it.
    pub(super) fn lists(&self, from: usize) -> Result<Vec<Vec<&str>>, QueueError> {
        let lists = self.values.iter().skip(from).map(|value| match value {
            Value::Array(items) => items.iter().map(text_or_none).collect::<Option<Vec<_>>>(),
            _ => None,
        });
        lists.collect::<Option<_>>().ok_or_else(|| self.unknown())
    }

    /// The elements from a position on, as texts.
    pub(super) fn texts(&self, from: usize) -> Result<Vec<&str>, QueueError> {
        self.values.iter().skip(from).map(text_of).collect::<Option<_>>().ok_or_else(|| self.unknown())
    }

    /// The error that says that this reply is not understood.
    pub(super) fn unknown(&self) -> QueueError {
        QueueError::Reply { script: self.script, reply: excerpt(&format!("{:?}", self.values)) }
    }
}

fn text_or_none(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => Some(std::str::from_utf8(bytes).unwrap_or(NO_TEXT)),
        other => text_of(other),
    }
}

fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn number_of(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text_of(other)?.parse().ok(),
    }
}
