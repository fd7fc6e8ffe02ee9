"""Files: saved models, images, archives, JSON, what is bundled with metagen."""
