//! `/models`: who can answer.

use poem_openapi::{Object, OpenApi};
use private_chat_core::usecase::models::Model;
use serde::Serialize;

use super::caller::Caller;
use super::edge::fault::Failed;
use super::edge::guard::By;
use super::edge::json::Json;
use super::{State, Tag};

/// The route `/models`.
pub struct ModelsApi(pub State);

/// A model that may be used.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Model")]
struct ModelView {
    /// What `model` takes: `provider/model`.
    id: String,
    /// Its provider.
    provider: String,
    /// How many tokens prompt and reply may have together; null where nobody has said.
    context_length: Option<u32>,
    /// Whether it takes images.
    vision: bool,
}

impl From<Model> for ModelView {
    fn from(model: Model) -> Self {
        Self { id: model.id, provider: model.provider, context_length: model.context_length, vision: model.vision }
    }
}

/// All models that may be used.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Models")]
struct ModelsView {
    /// The models, provider by provider.
    items: Vec<ModelView>,
}

#[OpenApi(tag = "Tag::Chats")]
impl ModelsApi {
    /// The models that may be used
    ///
    /// What the configured providers offer just now. A provider that does not answer is left out.
    #[oai(path = "/models", method = "get", operation_id = "list_models")]
    async fn list(&self, _by: By<Caller>) -> Result<Json<ModelsView>, Failed> {
        let items = self.0.cases.models.list().await.into_iter().map(Into::into).collect();
        Ok(Json(ModelsView { items }))
    }
}
