import pytest


@pytest.fixture(scope="session")
def tiny_job():
    """Two epochs on digits: the whole path in seconds."""
    import dataclasses

    from erkeras.recipes import find_recipe
    from erkeras.training import Job

    recipe = dataclasses.replace(find_recipe("default", "digits", (8, 8, 1)), epochs=2)
    # Deterministic operations, once on, would stay on for every other test.
    return Job("digits", recipe, limit=100, restarts=2, baseline=True, deterministic=False)


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory, tiny_job):
    """The folder that a tiny job makes. Not to be written to."""
    from erkeras.training import train

    output = tmp_path_factory.mktemp("saved_models") / "digits"
    train(tiny_job, output)
    return output
