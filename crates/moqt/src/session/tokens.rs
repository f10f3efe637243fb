//! Tokens the peer registered ("AUTHORIZATION TOKEN Parameter").

use std::collections::HashMap;

use bytes::Bytes;

use crate::{AuthToken, ProtocolError, SessionCode};

/// What each registered token costs beside its value, bytes ("MAX_AUTH_TOKEN_CACHE_SIZE").
const OVERHEAD: u64 = 16;

#[derive(Debug)]
pub(super) struct TokenCache {
    max: u64,
    size: u64,
    tokens: HashMap<u64, (u64, Bytes)>,
}

impl TokenCache {
    pub(super) fn new(max: u64) -> Self {
        Self { max, size: 0, tokens: HashMap::new() }
    }

    /// The same for tokens in SETUP, which came before the sender could know how many we take: one
    /// too many is used once instead of ending the session ("AUTHORIZATION TOKEN" under "Setup
    /// Options").
    pub(super) fn resolve_setup(
        &mut self,
        tokens: &mut Vec<AuthToken>,
    ) -> Result<(), ProtocolError> {
        let mut values = Vec::with_capacity(tokens.len());
        for token in tokens.drain(..) {
            let token = match token {
                AuthToken::Register { kind, value, .. } if self.size + cost(&value) > self.max => {
                    AuthToken::UseValue { kind, value }
                }
                other => other,
            };
            values.extend(self.resolve_one(token)?);
        }
        *tokens = values;
        Ok(())
    }

    /// Registers and deletes as `tokens` say, and leaves the values they stand for.
    pub(super) fn resolve(&mut self, tokens: &mut Vec<AuthToken>) -> Result<(), ProtocolError> {
        let mut values = Vec::with_capacity(tokens.len());
        for token in tokens.drain(..) {
            values.extend(self.resolve_one(token)?);
        }
        *tokens = values;
        Ok(())
    }

    fn resolve_one(&mut self, token: AuthToken) -> Result<Option<AuthToken>, ProtocolError> {
        match token {
            AuthToken::UseValue { .. } => Ok(Some(token)),
            AuthToken::Register { alias, kind, value } => {
                self.register(alias, kind, value.clone())?;
                Ok(Some(AuthToken::UseValue { kind, value }))
            }
            AuthToken::UseAlias { alias } => {
                let (kind, value) = self.tokens.get(&alias).ok_or_else(|| unknown(alias))?;
                Ok(Some(AuthToken::UseValue { kind: *kind, value: value.clone() }))
            }
            AuthToken::Delete { alias } => {
                let (_, value) = self.tokens.remove(&alias).ok_or_else(|| unknown(alias))?;
                self.size -= cost(&value);
                Ok(None)
            }
        }
    }

    fn register(&mut self, alias: u64, kind: u64, value: Bytes) -> Result<(), ProtocolError> {
        if self.tokens.contains_key(&alias) {
            return Err(ProtocolError::new(
                SessionCode::DUPLICATE_AUTH_TOKEN_ALIAS,
                format!("token alias {alias} is in use"),
            ));
        }
        let size = self.size + cost(&value);
        if size > self.max {
            return Err(ProtocolError::new(
                SessionCode::AUTH_TOKEN_CACHE_OVERFLOW,
                format!("registered tokens would take {size} bytes, at most {} may", self.max),
            ));
        }
        self.size = size;
        self.tokens.insert(alias, (kind, value));
        Ok(())
    }
}

fn cost(value: &Bytes) -> u64 {
    OVERHEAD + value.len() as u64
}

fn unknown(alias: u64) -> ProtocolError {
    ProtocolError::new(
        SessionCode::UNKNOWN_AUTH_TOKEN_ALIAS,
        format!("token alias {alias} is not registered"),
    )
}
