"""A module of the project's own: the edit-and-rebuild benchmark changes a line here."""


def greet(greeting, machine):
    return f"{greeting} from kiln on {machine}"
