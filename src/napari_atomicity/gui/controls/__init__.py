"""Controls that know neither the state nor the viewer."""
