from django.db import migrations

# What people leave out when they type: the accents of Latin, Greek and Cyrillic letters (and the
# breathings, iotas and hooks of older texts), the points of Hebrew and Arabic ones.
ACCENTS = (
    r"\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
    r"\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670"
)
# Unicode's Default_Ignorable_Code_Point: soft hyphens, joiners, variation selectors, tags ...
IGNORABLE = (
    r"\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)

# As Unicode's toNFKC_Casefold (section 3.13), and without accents. Neither lower() nor upper() folds
# by itself: the one leaves a final sigma, the other a sharp s. What has no decomposition, and reads
# as an accented letter or a ligature, is named. Text of ASCII alone takes the short way.
#
# In PL/pgSQL, which keeps what it has parsed for the session: a function in SQL would be parsed by
# each statement that writes a title, which takes ten times as long as the rest of it (measured:
# docs/adr/0011-search.md). Every name has its schema, so that no search_path has a say in it; a
# SET clause would cost more.
CREATE_FOLD = rf"""
    DO $do$
    DECLARE
        folding text;
    BEGIN
        -- The database's own collation may fold ASCII alone, or as Turkish does.
        SELECT quote_ident(name) INTO folding
          FROM unnest(ARRAY[
                   'pg_c_utf8', -- PostgreSQL 17 and later
                   'und-x-icu', -- one that is built with ICU
                   'C.utf8'     -- of the C library
               ]) AS name
         WHERE to_regcollation('pg_catalog.' || quote_ident(name)) IS NOT NULL
         LIMIT 1;
        IF folding IS NULL OR current_setting('server_encoding') <> 'UTF8' THEN
            RAISE EXCEPTION 'This database can''t fold the case of Unicode text.' USING HINT =
                'It needs the encoding UTF8 and, before PostgreSQL 17, the collation "und-x-icu" '
                '(a server with ICU) or "C.utf8".';
        END IF;
        EXECUTE format($format$
            CREATE FUNCTION tasks_fold(value text) RETURNS text
            LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
            AS $body$
            BEGIN
                IF pg_catalog.octet_length(value)
                   OPERATOR(pg_catalog.=) pg_catalog.char_length(value) THEN
                    RETURN pg_catalog.lower(value COLLATE pg_catalog.%1$s);
                END IF;
                value := pg_catalog.regexp_replace(
                    normalize(value, NFKD), '[{ACCENTS}{IGNORABLE}]+', '', 'g'
                );
                value := pg_catalog.lower(pg_catalog.upper(value COLLATE pg_catalog.%1$s));
                value := pg_catalog.translate(value, 'ςøłđħŧ', 'σoldht');
                value := pg_catalog.replace(value, 'ß', 'ss');
                value := pg_catalog.replace(value, 'æ', 'ae');
                value := pg_catalog.replace(value, 'œ', 'oe');
                RETURN normalize(value, NFC);
            END
            $body$
        $format$, folding);
    END
    $do$
"""  # noqa: S608  # of constants
DROP_FOLD = "DROP FUNCTION tasks_fold(text)"


class Migration(migrations.Migration):
    """The fold of text that is searched, and of what it is searched for; titles sort by it."""

    dependencies = [("tasks", "0004_description_length")]

    operations = [migrations.RunSQL(CREATE_FOLD, reverse_sql=DROP_FOLD)]
