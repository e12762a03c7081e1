"""The object model, pure: kinds, schemas, defaults, validation, selectors, patches, tables."""
