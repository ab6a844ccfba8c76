from .example_data import (
    atom_example_path as atom_example_path,
    example_path as example_path,
    lattice_pieces as lattice_pieces,
    make_movie as make_movie,
    make_session as make_session,
    make_size_selected as make_size_selected,
)
from .field_settings import FieldSettings as FieldSettings
from .fields import simulate_field as simulate_field
from .movies import simulate_movie as simulate_movie
from .structures import isomer_library as isomer_library
