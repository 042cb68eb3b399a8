//! Which models there are, and which one answers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Violation};
use crate::model::chat;
use crate::port::Ports;
use crate::port::inference::{InferenceFailure, Offer, Provider};

/// How long a provider's list is believed.
const FRESH: Duration = Duration::from_secs(60);
/// How soon a provider is asked again for a name that its list does not have, or after it did not answer.
const IMPATIENT: Duration = Duration::from_secs(5);

/// A model that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// `provider/model`: what `model` takes.
    pub id: String,
    /// Its provider.
    pub provider: String,
    /// How many tokens prompt and reply may have together, where that is known.
    pub context_length: Option<u32>,
    /// Whether it takes images.
    pub vision: bool,
}

/// Who answers a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The provider.
    pub provider: String,
    /// The model as the provider calls it; none for the first that it lists, where it could not be asked.
    pub model: Option<String>,
}

impl Choice {
    /// `provider/model`, where the model is known.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.model.as_ref().map(|model| format!("{}/{model}", self.provider))
    }
}

/// What a provider listed, and when.
#[derive(Clone)]
struct Listed {
    at: Duration,
    offers: Result<Vec<Offer>, InferenceFailure>,
}

/// The models of all providers.
pub struct Models {
    ports: Ports,
    default: Option<String>,
    listed: Mutex<HashMap<String, Listed>>,
}

impl Models {
    /// Over these ports; `default` answers where nothing names a model.
    #[must_use]
    pub fn new(ports: Ports, default: Option<String>) -> Self {
        Self { ports, default, listed: Mutex::default() }
    }

    /// All models that may be used, provider by provider. A provider that does not answer is left out, but for its configured list.
    pub async fn list(&self) -> Vec<Model> {
        let mut models = Vec::new();
        for (name, provider) in self.ports.inference.iter() {
            for Offer { name: model, context_length } in self.offers(name, provider, FRESH).await.unwrap_or_default() {
                // A name that no message could give as its `model` is no offer.
                let Ok(id) = chat::model_id("model", format!("{name}/{model}")) else { continue };
                models.push(Model {
                    id,
                    provider: name.clone(),
                    context_length: provider.context_length.or(context_length),
                    vision: provider.vision,
                });
            }
        }
        models
    }

    /// The provider of this name.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.ports.inference.get(name)
    }

    /// How many tokens prompt and reply of a model may have together, by the configuration or by what its provider has said.
    #[must_use]
    pub fn context_length(&self, choice: &Choice) -> Option<u32> {
        let configured = self.provider(&choice.provider)?.context_length;
        configured.or_else(|| {
            let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
            let offers = listed.get(&choice.provider)?.offers.as_ref().ok()?;
            offers.iter().find(|offer| Some(&offer.name) == choice.model.as_ref())?.context_length
        })
    }

    /// Takes a model's id that is to be kept.
    ///
    /// # Errors
    /// A violation of `field` unless a provider offers it. A provider that can't be asked just now is believed to.
    pub async fn check(&self, field: &str, id: String) -> Result<String, Violation> {
        let id = chat::model_id(field, id)?;
        self.choice(&id).await.map(|_| id).ok_or_else(|| Violation::new(field, not_offered()))
    }

    /// Who answers: the first of these ids that is named, or else the default.
    ///
    /// # Errors
    /// `Invalid` when the named model is not offered (any more).
    pub async fn choose(&self, named: [Option<&str>; 3]) -> Result<Choice, Error> {
        let wanted = named.into_iter().flatten().next().or(self.default.as_deref());
        if let Some(id) = wanted {
            let id = chat::model_id("model", id.to_owned())?;
            return self.choice(&id).await.ok_or_else(|| Error::invalid("model", format!("{id}: {}", not_offered())));
        }
        match self.ports.inference.first_key_value() {
            Some((name, _)) => Ok(Choice { provider: name.clone(), model: self.first_of(name).await.ok().flatten() }),
            None => Err(Error::invalid("model", "there is no provider configured")),
        }
    }

    /// The first model that a provider lists; none where it lists none.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn first_of(&self, provider: &str) -> Result<Option<String>, InferenceFailure> {
        match self.ports.inference.get(provider) {
            Some(found) => Ok(self.offers(provider, found, FRESH).await?.into_iter().next().map(|offer| offer.name)),
            None => Ok(None),
        }
    }

    async fn choice(&self, id: &str) -> Option<Choice> {
        let (name, model) = id.split_once('/')?;
        let provider = self.ports.inference.get(name)?;
        let lists = |offers: &[Offer]| offers.iter().any(|offer| offer.name == model);
        let mut offered = self.offers(name, provider, FRESH).await;
        if offered.as_ref().is_ok_and(|offers| !lists(offers)) {
            // It may have been loaded just now.
            offered = self.offers(name, provider, IMPATIENT).await;
        }
        let known = offered.map_or(true, |offers| lists(&offers));
        known.then(|| Choice { provider: name.to_owned(), model: Some(model.to_owned()) })
    }

    /// The models of a provider: those configured, else those it listed at most `age` ago.
    async fn offers(&self, name: &str, provider: &Provider, age: Duration) -> Result<Vec<Offer>, InferenceFailure> {
        if !provider.models.is_empty() {
            return Ok(provider.models.iter().map(Offer::named).collect());
        }
        let now = self.ports.clock.monotonic();
        let kept = self.listed.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(kept) = kept {
            let age = if kept.offers.is_ok() { age } else { IMPATIENT };
            if now.saturating_sub(kept.at) < age {
                return kept.offers;
            }
        }
        let offers = provider.inference.models().await;
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.ports.clock.monotonic();
        match (&offers, listed.get_mut(name)) {
            // A provider that is away for a moment keeps the models it had.
            (Err(_), Some(kept)) if kept.offers.is_ok() => {
                kept.at = at.saturating_sub(FRESH.saturating_sub(IMPATIENT));
                kept.offers.clone()
            }
            _ => {
                listed.insert(name.to_owned(), Listed { at, offers: offers.clone() });
                offers
            }
        }
    }
}

const fn not_offered() -> &'static str {
    "is no model that GET /models lists"
}
